import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import type { ServedModel } from '../model/serving/modelServer.js';
import { modelNames } from './chat/command.js';
import { withDevice } from './device/gpu.js';
import { findModels, MODEL_TEXT, type ModelFlags, withDownload } from './inputs/models.js';
import { openTextReader } from './inputs/textReader.js';
import { type DateFlag, localTime, withDateOption } from './options/dateOption.js';
import { byteCount, wholeNumber } from './options/optionTypes.js';
import { describeSampling } from './options/samplingOptions.js';
import { newCommand, type Run, runs } from './terminal/command.js';
import { describeFailure, formatFailure } from './terminal/failure.js';

interface ServeOptions extends ModelFlags, DateFlag {
  against?: string;
  port: number;
  host: string;
  allowHost?: string[];
  texts: number;
  cacheBytes?: number;
}

/** How long answers in progress may go on after Ctrl-C. */
const GRACE_MS = 1000;

const details = `Speaks OpenAI's protocol: /v1/completions and /v1/chat/completions, streamed or not, and /v1/models. Clients take the
address that it prints, with /v1 behind it, as their base URL, and need no key. Requests at the same time are written
together: four take little longer than one. At / is a page to talk to the model, or with --against to both side by side.

It listens on this machine alone unless --host says otherwise. There is no password: give another address only where you
trust all who can reach it. Ctrl-C ends the server; answers in progress have a second to end.`;

/** `serve MODEL` */
export function serveCommand(signal: AbortSignal): Command {
  const command = newCommand('serve', {
    summary: "serve a model to OpenAI's clients, and a page to talk to it",
    details,
    args: [['<model>', MODEL_TEXT]],
    examples: [
      'rm-engine serve ./pruned',
      'rm-engine serve ./pruned --against ./SmolLM2-135M-Instruct --port 8000',
      `curl http://127.0.0.1:8080/v1/completions -H 'content-type: application/json' -d '{"prompt": "The moon is"}'`,
    ],
  })
    .option('--against <model>', 'a second model, beside the first on the page')
    .option('--port <number>', 'where to listen; 0 takes a free port', wholeNumber(0), 8080)
    .option('--host <address>', 'address of this machine to listen at', '127.0.0.1')
    .option('--allow-host <names...>', 'further names of this machine that clients may use')
    .option(
      '--texts <count>',
      'texts of a model that are written at the same time; more wait',
      wholeNumber(1),
      32,
    )
    .option(
      '--cache-bytes <bytes>',
      "most memory for a model's keys and values (default: a quarter of what is left)",
      byteCount,
    );
  return runs<ServeOptions>(withDownload(withDateOption(command, 'now')), signal, (run, model) =>
    runServe(run, model as string),
  );
}

async function runServe(run: Run<ServeOptions>, folder: string): Promise<void> {
  const { options, terminal, progress, signal } = run;
  if (options.port > 65_535) run.usage('--port is at most 65535');
  if (options.against === folder) run.usage('--against names the same model');
  const folders = [folder, ...(options.against === undefined ? [] : [options.against])];
  await findModels(run, folders);
  const described = await describe(run, folders);
  const [{ Model }, { ModelServer }, { shippedPath }] = await Promise.all([
    import('../model/transformer/model.js'),
    import('../model/serving/modelServer.js'),
    import('../model/files/shippedPath.js'),
  ]);
  const page = await readFile(shippedPath('chat.html'), 'utf8');
  await withDevice(run, async device => {
    const served: ServedModel[] = [];
    progress.steps(folders.length);
    try {
      for (const [i, path] of folders.entries()) {
        progress.nextStep();
        served.push({ ...described[i]!, model: await Model.load(device, path, { onProgress: progress }) });
      }
      const server = new ModelServer(served, {
        ...{ page, texts: options.texts },
        onError: error => terminal.error(formatFailure(describeFailure(error), terminal)),
        ...(options.allowHost && { hosts: options.allowHost }),
        ...(options.cacheBytes !== undefined && { cacheBytes: options.cacheBytes }),
      });
      try {
        const address = await server.listen(options.port, options.host);
        terminal.data(`${address}\n`);
        const names = described.map(({ name }) => name).join(' and ');
        terminal.note(`serves ${names}: to a browser there, to clients at ${address}/v1. Ctrl-C ends`);
        if (!signal.aborted) await once(signal, 'abort');
      } finally {
        await server.close(GRACE_MS);
      }
    } finally {
      for (const { model } of served) model.dispose();
    }
  });
}

/** Names, readers and the makers' settings of the models. */
async function describe(
  { options, terminal }: Run<ServeOptions>,
  folders: readonly string[],
): Promise<Omit<ServedModel, 'model'>[]> {
  const { generationDefaults } = await import('../model/generation/generationDefaults.js');
  const described: Omit<ServedModel, 'model'>[] = [];
  for (const [i, name] of modelNames(folders).entries()) {
    const reader = await openTextReader(folders[i]!, { date: options.date ?? localTime() });
    if (!reader.chat.available) terminal.note(`${name} has no chat template: it continues messages instead`);
    const sampling = await generationDefaults(folders[i]!);
    if (Object.keys(sampling).length > 0) {
      terminal.note(`${name}, as its generation_config.json says: ${describeSampling(sampling)}`);
    }
    described.push({ name, reader, sampling });
  }
  return described;
}
