/** Times the original ReplaceMe program and `rm-engine prune` on the same texts, one after the other on one machine. */
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AdapterInfo } from '../../engine/adapterInfo.js';
import { encodeDocument, loadChatTemplate } from '../../model/text/chat.js';
import type { Document } from '../../model/text/documents.js';
import { loadTokenizer } from '../../model/text/tokenizer.js';
import type { PruneReport } from '../../replaceme/index.js';
import { median } from '../measure.js';
import { MARK } from './serve.js';

export interface ReplacemeComparison {
  /** Wall times of whole processes, in the order ours, original, ours. */
  readonly ours: { readonly seconds: readonly number[]; readonly kept: number; readonly tokens: number };
  readonly original: {
    readonly seconds: number;
    /** Parts of it: loading Python's packages, the pass for distances, the pass for the fit with its solve and saving. */
    readonly phases: { readonly imports: number; readonly distances: number; readonly fit: number };
    readonly kept: number;
    readonly version: string;
  };
  readonly texts: number;
  /** Our time / the original's: smaller is better. */
  readonly timeRatio: number;
}

export interface ReplacemeOptions {
  readonly python: string;
  /** replaceme.py */
  readonly runner: string;
  /** The command line, main.js. */
  readonly cli: string;
  readonly checkout: string;
  readonly model: string;
  readonly calib: string;
  readonly layers: number;
  say(line: string): void;
}

/** The original cuts texts to this many tokens, and computes this many texts at a time (it drops a remainder). */
const LENGTH = 512;
const BATCH = 8;

/** Splits a conversation in ChatML, the original's input, into its turns. */
function turns(text: string): { role: string; content: string }[] {
  const matches = text.matchAll(/<\|im_start\|>(\w+)\n(.*?)(?:<\|im_end\|>\n?|$)/gs);
  return [...matches].map(match => ({ role: match[1]!, content: match[2]! }));
}

/**
 * Cuts the texts to conversations of which ours computes the same sequences as the original: the first 512 tokens of
 * each text, unpacked. (Ours would join plain texts and fill up sequences.)
 *
 * @throws Error for a text that the chat template writes differently.
 */
async function sameSequences(calib: string, model: string): Promise<Document[]> {
  const tokenizer = await loadTokenizer(model);
  const chat = await loadChatTemplate(model, tokenizer);
  const lines = (await readFile(calib, 'utf8')).split('\n').filter(line => line.trim());
  const documents: Document[] = [];
  for (const [i, line] of lines.entries()) {
    const { text } = JSON.parse(line) as { text: string };
    const expected = (await tokenizer.encode(text)).slice(0, LENGTH);
    const document = { messages: turns(await tokenizer.decode(expected)) };
    const encoded = await encodeDocument(document, tokenizer, chat);
    // The template trims white space at the end of a turn: a cut within it changes the last two tokens.
    if (encoded.length < expected.length || expected.slice(0, -2).some((id, at) => id !== encoded[at])) {
      throw new Error(`${calib}:${i + 1}: not a text that the model's chat template writes in the same way`);
    }
    documents.push(document);
  }
  return documents;
}

/** Runs a program to its end and returns its time and output. */
async function wallTime(
  command: string,
  args: readonly string[],
): Promise<{ seconds: number; stdout: string }> {
  const started = performance.now();
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (data: Buffer) => {
    stdout += data;
  });
  child.stderr.on('data', (data: Buffer) => {
    stderr = (stderr + data).slice(-2000);
  });
  await new Promise<void>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', code => {
      if (code === 0) resolve();
      else reject(new Error(`${command} ${args[0]} ended with ${code}: ${stderr}`));
    });
  });
  return { seconds: (performance.now() - started) / 1000, stdout };
}

/**
 * Runs ours, the original, ours, and times each process from start to exit.
 *
 * @throws Error if one of them fails.
 */
export async function compareReplaceme(
  options: ReplacemeOptions,
): Promise<{ adapter: AdapterInfo; comparison: ReplacemeComparison }> {
  const { python, runner, cli, checkout, model, calib, layers, say } = options;
  const documents = await sameSequences(calib, model);
  const texts = documents.length;
  if (texts % BATCH !== 0)
    throw new Error(`${calib}: ${texts} texts, the original takes multiples of ${BATCH}`);
  const folder = await mkdtemp(join(tmpdir(), 'rm-engine-peers-'));
  try {
    const conversations = join(folder, 'calibration.jsonl');
    await writeFile(conversations, documents.map(document => `${JSON.stringify(document)}\n`).join(''));
    const seconds: number[] = [];
    let report: PruneReport | undefined;
    const ours = async () => {
      say('rm-engine prune ...');
      const out = join(folder, `ours${seconds.length}`);
      const sizes = ['--sequence-length', `${LENGTH}`, '--tokens', `${texts * LENGTH}`];
      const args = [cli, 'prune', model, out, '--layers', `${layers}`, '--calib', conversations, ...sizes];
      const result = await wallTime(process.execPath, [...args, '--json', '--quiet']);
      seconds.push(result.seconds);
      report = JSON.parse(result.stdout) as PruneReport;
    };
    await ours();
    say('the original ReplaceMe ...');
    const original = await wallTime(python, [
      runner,
      checkout,
      model,
      calib,
      `${layers}`,
      join(folder, 'original'),
    ]);
    const line = original.stdout.split('\n').find(text => text.startsWith(MARK))!;
    const { imports, distances, fit, kept, version, threads } = JSON.parse(line.slice(MARK.length));
    await ours();
    const round = (value: number) => Number(value.toFixed(2));
    const comparison: ReplacemeComparison = {
      ours: {
        seconds: seconds.map(round),
        kept: report!.selection.windows[0]!.layer,
        tokens: report!.calibration.tokens,
      },
      original: {
        seconds: round(original.seconds),
        phases: { imports: round(imports), distances: round(distances), fit: round(fit) },
        kept,
        version: `${version}, ${threads} threads`,
      },
      texts,
      timeRatio: round(median(seconds) / original.seconds),
    };
    return { adapter: report!.adapter, comparison };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
