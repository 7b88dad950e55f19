// Requests to this server, and its answers as they come.

export async function request(path, settings) {
  const answer = await fetch(path, { credentials: "same-origin", ...settings });
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  const wait = answer.headers.get("Retry-After");
  throw new Error(`${told.detail ?? `the server answers ${answer.status}`}${wait ? ` (again in ${wait} s)` : ""}`);
}

export function post(path, content, signal) {
  return request(path, { method: "POST", body: JSON.stringify(content), headers: { "Content-Type": "application/json" }, signal });
}

export function explain(error) {
  return error instanceof TypeError ? "The server cannot be reached." : error.message;
}

export async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const [name, data] = block.split("\n");
      yield { name: name.slice("event: ".length), ...JSON.parse(data.slice("data: ".length)) };
    }
  }
}
