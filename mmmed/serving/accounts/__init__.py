"""Who may do what: users, roles, logins that expire, tokens against forged requests. There is no default account."""
