// Read a whole account with Faraday's published client, and print what it decoded as JSON.
const faraday = require("@fdy/faraday-js");

async function main() {
  const client = new faraday.FaradayClient(
    new faraday.Configuration({
      basePath: process.env.FARADAY_URL,
      accessToken: process.env.FARADAY_KEY,
    }),
  );
  const [connectionId, scopeId, datasetId, targetId] = process.argv.slice(2);

  await client.uploads.createUpload("web_orders", "monday.csv", new Blob(["id\n1\n"]));
  const decoded = {
    account: await client.accounts.getCurrentAccount(),
    connections: await client.connections.getConnections(),
    connection: await client.connections.getConnection(connectionId),
    connectionDatasets: await client.connections.getConnectionDatasets(connectionId),
    connectionTargets: await client.connections.getConnectionTargets(connectionId),
    datasets: await client.datasets.getDatasets(),
    dataset: await client.datasets.getDataset(datasetId),
    streams: await client.streams.getStreams(),
    traits: await client.traits.getTraits(),
    cohorts: await client.cohorts.getCohorts(),
    outcomes: await client.outcomes.getOutcomes(),
    personaSets: await client.personaSets.getPersonaSets(),
    recommenders: await client.recommenders.getRecommenders(),
    places: await client.places.getPlaces(),
    scopes: await client.scopes.getScopes(),
    scope: await client.scopes.getScope(scopeId),
    scopeDatasets: await client.scopes.getScopeDatasets(scopeId),
    scopeTargets: await client.scopes.getScopeTargets(scopeId),
    scopePopulationCohorts: await client.scopes.getScopePopulationCohorts(scopeId),
    scopePayloadCohorts: await client.scopes.getScopePayloadCohorts(scopeId),
    scopePayloadOutcomes: await client.scopes.getScopePayloadOutcomes(scopeId),
    scopePayloadPersonaSets: await client.scopes.getScopePayloadPersonaSets(scopeId),
    scopePayloadRecommenders: await client.scopes.getScopePayloadRecommenders(scopeId),
    targets: await client.targets.getTargets(),
    target: await client.targets.getTarget(targetId),
    download: await client.targets.downloadTarget(targetId),
    uploads: await client.uploads.getUploads(),
    upload: await (await client.uploads.getUpload("web_orders", "monday.csv")).text(),
    deleted: (await client.uploads.deleteUpload("web_orders", "monday.csv")) ?? "nothing",
    graph: await client.graph.getGraph(),
    // The client throws the response itself.
    error: await client.datasets
      .getDataset("orders")
      .catch(async (response) => faraday.ModelErrorFromJSON(await response.json())),
  };
  // JSON.stringify writes an invalid Date as null, the same as a missing one.
  const text = JSON.stringify(decoded, function (name, value) {
    const original = this[name];
    if (!(original instanceof Date)) return value;
    return Number.isNaN(original.getTime()) ? "an invalid date" : { date: original.toISOString() };
  });
  process.stdout.write(text);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
