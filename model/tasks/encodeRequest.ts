import { RmError } from '../../engine/index.js';
import type { Tokenizer } from '../text/tokenizer.js';
import type { TextRequest } from './prompts.js';
import { rightStrip } from './pythonText.js';

/** Token ids of a context and of the continuation to score. */
export interface TokenRequest {
  readonly context: readonly number[];
  readonly continuation: readonly number[];
}

/** A request and the row that it comes from, for messages. */
export interface RowRequest {
  readonly request: TextRequest;
  readonly where: string;
}

/**
 * Encodes requests as lm-eval does for causal models. White space at the end of the context moves to the continuation. The
 * whole text is encoded; tokens beyond the length of the encoded context are the continuation. An empty context becomes
 * the model's BOS, or its EOS if it has no BOS.
 *
 * @throws RmError DATA_INVALID naming the row if nothing is left to score.
 */
export async function encodeRequests(
  tokenizer: Tokenizer,
  requests: readonly RowRequest[],
): Promise<TokenRequest[]> {
  const { bos_token: bos, eos_token: eos } = tokenizer.specialTokens;
  const [stated] = await tokenizer.encode(bos ?? eos ?? '', { addSpecialTokens: false });
  const prefix = stated ?? tokenizer.bosId ?? tokenizer.eosIds[0];
  const prefixText = prefix === undefined ? '' : await tokenizer.decode([prefix]);

  const alone = (request: TextRequest) => request.context === '';
  const pairs = requests.map(({ request }) => request).filter(request => !alone(request));
  // The choices of a row share their context.
  const contexts = [...new Set(pairs.map(({ context }) => rightStrip(context)))];
  const wholes = pairs.map(({ context, continuation }) => context + continuation);
  // A text that already begins with BOS gets no second one.
  const begins = (text: string) => prefixText !== '' && text.startsWith(prefixText);
  const texts = [...contexts, ...wholes];
  const single = requests.flatMap(({ request }) => (alone(request) ? request.continuation : []));
  const [plain, special] = [
    [...new Set([...single, ...texts.filter(begins)])],
    [...new Set(texts.filter(text => !begins(text)))],
  ];
  const plainIds = idsByText(plain, await tokenizer.encodeBatch(plain, { addSpecialTokens: false }));
  const specialIds = idsByText(special, await tokenizer.encodeBatch(special));
  const idsOf = (text: string) => (begins(text) ? plainIds : specialIds).get(text)!;

  return requests.map(({ request, where }) => {
    const encoded = alone(request)
      ? afterPrefix(plainIds.get(request.continuation)!, prefix)
      : afterContext(idsOf(request.context + request.continuation), idsOf(rightStrip(request.context)));
    if (encoded.context.length > 0 && encoded.continuation.length > 0) return encoded;
    throw new RmError(
      'DATA_INVALID',
      `${where}: the continuation ${JSON.stringify(request.continuation)} adds no token to its context`,
      'Check the row: its text or its answer may be empty.',
    );
  });
}

const idsByText = (texts: readonly string[], ids: readonly number[][]): ReadonlyMap<string, number[]> =>
  new Map(texts.map((text, i) => [text, ids[i]!]));

function afterPrefix(ids: readonly number[], prefix: number | undefined): TokenRequest {
  if (prefix === undefined || ids[0] === prefix)
    return { context: ids.slice(0, 1), continuation: ids.slice(1) };
  return { context: [prefix], continuation: ids };
}

const afterContext = (whole: readonly number[], context: readonly number[]): TokenRequest => ({
  context,
  continuation: whole.slice(context.length),
});
