/** Lists the names of all adapters that Dawn sees. */
export async function listAdapters(): Promise<string[]> {
  // Loaded when it is called: bundlers would else join what looks for drivers to everything that imports the engine.
  return await (await import('./adapter.js')).listAdapters();
}
