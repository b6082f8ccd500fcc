/**
 * Serves a model to OpenAI's clients: requests at the same time are written together, step by step, in one KV cache.
 *
 *   node dist/examples/server.js [MODEL [PORT]]      default: the demo model, a free port
 *
 * The whole of it as a command, with a page to talk to the model: rm-engine serve MODEL
 */
import { once } from 'node:events';
import { Device } from 'rm-engine/engine';
import { generationDefaults, Model, ModelServer, openTextReader } from 'rm-engine/model';
import { shippedPath } from 'rm-engine/replaceme';

const [folder = shippedPath('demo-model'), port = '0'] = process.argv.slice(2);

await using device = await Device.open();
using model = await Model.load(device, folder);
const reader = await openTextReader(folder);
const sampling = await generationDefaults(folder);

await using server = new ModelServer([{ name: 'model', model, reader, sampling }], { texts: 16 });
console.log(await server.listen(Number(port)));
await once(process, 'SIGINT');
