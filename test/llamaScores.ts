/**
 * What llama.cpp (through node-llama-cpp) makes of GGUF files, on the CPU:
 *   node llamaScores.js FOLDER-OF-NODE-LLAMA-CPP < [{"path": "MODEL.gguf", "sequences": [[ids]], "greedy": {"ids": [...], "count": n}, "text": "..."}]
 * prints [{"logProbabilities": [[of every next token]], "greedy": [ids], "ids": [of the text]}].
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

/** What is asked of llama.cpp. */
export interface LlamaRequest {
  /** The file. */
  readonly path: string;
  readonly sequences: readonly (readonly number[])[];
  readonly greedy: { readonly ids: readonly number[]; readonly count: number };
  readonly text: string;
}

/** What it answers. */
export interface LlamaScores {
  readonly logProbabilities: readonly (readonly number[])[];
  readonly greedy: readonly number[];
  readonly ids: readonly number[];
}

/** What is used of node-llama-cpp, whose own declarations are not installed here. */
interface Sequence {
  controlledEvaluate(
    input: readonly (readonly [number, { generateNext: { probabilities: true; options: object } }])[],
  ): Promise<readonly ({ next: { probabilities: Map<number, number> } } | undefined)[]>;
  evaluate(ids: readonly number[], options: object): AsyncIterable<number>;
  clearHistory(): Promise<void>;
}
interface LlamaModel {
  tokenize(text: string, specialTokens?: boolean): number[];
  createContext(options: object): Promise<{ getSequence(): Sequence }>;
}
interface NodeLlamaCpp {
  getLlama(options: object): Promise<{ loadModel(options: object): Promise<LlamaModel> }>;
}

const [folder] = process.argv.slice(2);
const requests = JSON.parse(readFileSync(0, 'utf8')) as LlamaRequest[];
const url = pathToFileURL(join(folder!, 'dist', 'index.js')).href;
const { getLlama } = (await import(url)) as NodeLlamaCpp;
const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, logLevel: 'error' });

// Everything that could change the distribution is switched off.
const options = { temperature: 1, topK: 0, topP: 1, minP: 0 };

async function scoresOf(request: LlamaRequest): Promise<LlamaScores> {
  const model = await llama.loadModel({ modelPath: request.path, ignoreMemorySafetyChecks: true });
  const contextSize = 16 + Math.max(...request.sequences.map(({ length }) => length), 64);
  // Keys and values in f32, as here.
  const cache = {
    experimentalKvCacheKeyType: 'F32',
    experimentalKvCacheValueType: 'F32',
    flashAttention: false,
  };
  // More threads wait for each other in loops: over the tiny models they took 15 times as much of the processor.
  const sequence = (
    await model.createContext({ contextSize, sequences: 1, threads: 1, ...cache })
  ).getSequence();
  const logProbabilities: number[][] = [];
  for (const ids of request.sequences) {
    await sequence.clearHistory();
    const asked = ids
      .slice(0, -1)
      .map(id => [id, { generateNext: { probabilities: true, options } }] as const);
    const results = await sequence.controlledEvaluate(asked);
    logProbabilities.push(
      results.map((result, i) => Math.log(result!.next.probabilities.get(ids[i + 1]!) ?? Number.NaN)),
    );
  }
  await sequence.clearHistory();
  const greedy: number[] = [];
  for await (const id of sequence.evaluate(request.greedy.ids, { temperature: 0, yieldEogToken: true })) {
    greedy.push(id);
    if (greedy.length === request.greedy.count) break;
  }
  return { logProbabilities, greedy, ids: model.tokenize(request.text, true) };
}

const scores: LlamaScores[] = [];
for (const request of requests) scores.push(await scoresOf(request));
process.stdout.write(`${JSON.stringify(scores)}\n`);
process.exit(0);
