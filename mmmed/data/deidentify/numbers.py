"""Rules for what has the shape of a number or an address of the net: contacts, record numbers, serials, accounts."""

from mmmed.data.deidentify.rules import rule

# What may stand between a label such as "MRN" and its value; a line break too, in forms that are laid out in lines.
_GAP = r"(?:\s*(?:[:#=(]|\bno\b\.?|\bn[º°]|\bnum(?:ber|ero)?\b\.?|\bid\b|\bis\b|\bwas\b|\bof\b)\s*|[ \t]+){1,4}"
# A value has a digit somewhere, or else any word after "ID" would be one.
_VALUE = r"(?P<phi>\#?(?=[\w/.-]{0,18}\d)[A-Z0-9](?:[\w/-]|\.(?=\w)){2,30})"
_PHONE_WORDS = (
    r"(?:tel(?:e(?:phone|fon[oa]))?|tlf[no]*|phone|ph|call(?:ed|ing)?|cell|mobile|m[oó]vil|pager?|contact|reach(?:ed)?"
    r"|text(?:ed)?|number|registered|voicemail)"
)
_NO_UNIT = r"(?!\s?(?:mg|ml|mcg|µg|g\b|k?cal|iu\b|u\b|cm|mm|cells|copies|%|/))"

CONTACTS = (
    rule("email", "email", r"(?P<phi>[\w.+%-]+@[\w-]+(?:\.[\w-]+)+)"),
    rule(
        "email, spelt out",
        "email",
        r"(?P<phi>\b[\w.+-]+\s?(?:\[at\]|\(at\))\s?[\w-]+\s?(?:\.|\[dot\]|\(dot\))\s?\w{2,})",
    ),
    rule("url", "url", r"(?P<phi>\b(?:https?|ftp)://[^\s<>\"')\]]*[^\s<>\"')\].,;?!])"),
    rule("www", "url", r"(?P<phi>\bwww\.[\w-]+\.[^\s<>\"')\]]*[^\s<>\"')\].,;?!])"),
    rule(
        "domain",
        "url",
        r"(?P<phi>(?<![\w@.-])[a-z0-9-]{2,}(?:\.[a-z0-9-]+)*\.(?:com|org|net|edu|gov|info|biz|io|co\.uk|nhs\.uk)\b"
        r"(?:/[^\s<>\"')\]]*)?)",
    ),
    rule("ip v4", "ip_address", r"(?P<phi>(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?!\.?\d))"),
    rule("ip v6", "ip_address", r"(?P<phi>(?<![\w:])(?:[0-9a-f]{1,4}:){4,7}[0-9a-f]{1,4}(?![\w:]))"),
    rule("mac", "device", r"(?P<phi>\b(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}\b)"),
    rule("fax, labelled", "fax", r"\bfax\b[^\d+(\n]{0,20}\n?\s*(?P<phi>\+?\(?\d[\d ().-]{5,18}\d)"),
    rule(
        "phone, ten digits",
        "phone",
        r"(?P<phi>(?<![\d.-])(?:\+?1[-. ]?)?(?:\(\d{3}\)\s?|\d{3}[-. ])\d{3}[-. ]\d{4}"
        r"(?:\s?(?:x|ext\.?)\s?\d{1,5})?(?![\d-]))",
    ),
    rule(
        "phone, international",
        "phone",
        r"(?P<phi>(?<!\w)(?:\+|00)\d{1,3}[ .-]?(?:\(0\)[ .-]?)?\d(?:[ .()-]{0,2}\d){6,11})(?!\d)",
    ),
    rule("phone, trunk zero", "phone", r"(?P<phi>(?<![\d./-])0\d{1,4}[ -]\d{2,4}(?:[ -]\d{2,4}){1,3}(?![\d./-]))"),
    rule(
        "phone, labelled",
        "phone",
        rf"\b{_PHONE_WORDS}\b\.?[^\d+(\n]{{0,25}}\n?[ \t]*(?P<phi>\+?\(?\d(?:[ ().-]{{0,2}}\d){{6,13}})(?![\d/])",
    ),
    rule("phone, seven digits", "phone", rf"(?P<phi>(?<![\d./-])(?!19|20)\d{{3}}[- ]\d{{4}}(?![\d./%-])){_NO_UNIT}"),
    rule("phone, pairs", "phone", r"(?P<phi>(?<![\d./-])\d{2}-\d{2}-\d{2}-\d{2}(?![\d./-]))"),
    rule(
        "phone, groups",
        "phone",
        r"(?P<phi>(?<![\d./-])(?:\d{3} \d{2} \d{3}|\d{2} \d{6}|\d{3} \d{3} \d{3}|9\d{2} \d{2} \d{2} \d{2})(?! ?[\d./-]))",
    ),
)

RECORDS = (
    rule("ssn", "ssn", r"(?P<phi>(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-]))"),
    rule(
        "ssn, labelled",
        "ssn",
        r"\b(?:ssn|social security(?: number| no\.?| #)?)\b[^\d\n]{0,10}(?P<phi>\d{3}[- ]?\d{2}[- ]?\d{4})\b",
    ),
    rule("accession, labelled", "accession", rf"\b(?:accession|acc|specimen|order|exam|requisition)\b{_GAP}{_VALUE}"),
    rule(
        "record number, labelled",
        "record_number",
        rf"\b(?:mrns?|mr|mc|medical record|med\.? rec\.?|records?|chart|unit|patient id(?:entifier)?|patient|pt id|pt"
        rf"|hosp(?:ital)? (?:no|id)|nhc|h\.?c\.?|historia(?: cl[ií]nica)?|episodio|cipa|dni|nie|pasaporte|nhs|case|file"
        rf"|visit|encounter|csn|study|site|ref(?:erence)?)\b{_GAP}{_VALUE}",
    ),
    rule(
        "health plan, labelled",
        "health_plan",
        rf"\b(?:insurance|member(?:ship)?|policy|subscriber|beneficiary|plan|group|medicare|medicaid|hicn|mbi|nass"
        rf"|coverage)\b{_GAP}{_VALUE}",
    ),
    rule(
        "account, labelled",
        "account",
        rf"\b(?:account|acct|invoice|bill(?:ing)?|claim|iban|card|cc|credit card)\b{_GAP}{_VALUE}",
    ),
    rule(
        "licence, labelled",
        "licence",
        rf"\b(?:licen[cs]e|lic|dea|npi|certificate|cert|registration|passport|driver'?s? licen[cs]e)\b{_GAP}{_VALUE}",
    ),
    rule("vehicle, labelled", "vehicle", rf"\b(?:vin|plate|license plate|vehicle)\b{_GAP}{_VALUE}"),
    rule(
        "vin",
        "vehicle",
        r"(?P<phi>\b(?=[A-Z]*\d)(?=\d*[A-Z])[A-HJ-NPR-Z0-9]{17}\b)",
        flags=0,
    ),
    rule("device, labelled", "device", rf"\b(?:serial|s/n|sn|device|implant|lot|udi|pacemaker)\b{_GAP}{_VALUE}"),
    rule(
        "labelled identifier",
        "identifier",
        rf"\b(?:id|identifier|confirmation|ticket|code|key)\b[ \t]*[:#=(][ \t]*{_VALUE}",
    ),
    rule("spaced college number", "licence", r"\bN[º°o]\.?\s?Col(?:egiado)?\b\W{0,4}(?P<phi>\d[\d ]{3,14}\d)"),
    rule("spaced insurance number", "health_plan", r"\bNASS\b\W{0,4}(?P<phi>\d[\d /]{5,16}\d)"),
    rule("iban", "account", r"(?P<phi>\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,4})?\b)", flags=0),
    rule("uid", "identifier", r"(?P<phi>(?<![\d.])[0-2](?:\.\d+){6,}(?![\d.]))"),
    rule("uuid", "identifier", r"(?P<phi>\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b)"),
    rule(
        "letters and digits",
        "identifier",
        r"(?P<phi>(?<![\w.-])\#?(?!NCT|ISRCTN|PMID|PMC|ICD|CPT)[A-Z]{1,5}[- ]?\d{5,}(?:-\d+)*(?!\w))",
        flags=0,
    ),
    rule("letters and digits, hyphenated", "identifier", r"(?P<phi>(?<![\w.-])\#?[A-Z]{2,5}-\d{4,}(?!\w))", flags=0),
    rule("digits and letters", "identifier", r"(?P<phi>(?<![\w.-])\#?\d{4,}-?[A-Z]{2,5}(?!\w))", flags=0),
    rule("hyphenated digits", "identifier", rf"(?P<phi>(?<![\w./-])\#?\d{{3,}}(?:-\d{{2,}}){{1,3}}(?![\w/-])){_NO_UNIT}"),
    rule("numbered", "identifier", r"(?P<phi>(?<!\w)\#\s?\d{4,}\b)"),
    rule("long number", "identifier", rf"(?P<phi>(?<![\w.,$€/-])\d{{7,19}}(?![\w,]|\.\d)){_NO_UNIT}"),
)
