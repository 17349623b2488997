// Read a whole account with Faraday's published client, and print what it decoded as JSON.
const faraday = require("@fdy/faraday-js");

async function main() {
  const client = new faraday.FaradayClient(
    new faraday.Configuration({
      basePath: process.env.FARADAY_URL,
      accessToken: process.env.FARADAY_KEY,
    }),
  );
  const [connectionId, scopeId, datasetId] = process.argv.slice(2);

  const decoded = {
    account: await client.accounts.getCurrentAccount(),
    connections: await client.connections.getConnections(),
    connection: await client.connections.getConnection(connectionId),
    connectionDatasets: await client.connections.getConnectionDatasets(connectionId),
    scopes: await client.scopes.getScopes(),
    scope: await client.scopes.getScope(scopeId),
    scopeDatasets: await client.scopes.getScopeDatasets(scopeId),
    datasets: await client.datasets.getDatasets(),
    dataset: await client.datasets.getDataset(datasetId),
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
