import { RmError } from '../../engine/index.js';
import type { Tokenizer } from '../text/tokenizer.js';
import type { TextRequest } from './prompts.js';
import { rightStrip } from './pythonText.js';

/** Token ids of a context and of the continuation to score. */
export interface TokenRequest {
  readonly context: readonly number[];
  readonly continuation: readonly number[];
}

/**
 * Encodes requests as lm-eval does for causal models. White space at the end of the context moves to the continuation. The
 * whole text is encoded; tokens beyond the length of the encoded context are the continuation. An empty context becomes
 * the model's BOS, or its EOS if it has no BOS.
 */
export class RequestEncoder {
  readonly #prefix: number | undefined;
  readonly #prefixText: string;
  /** The last encoded context, because the choices of a row share it. */
  #last: { context: string; ids: number[] } | undefined;

  constructor(private readonly tokenizer: Tokenizer) {
    const { bos_token: bos, eos_token: eos } = tokenizer.specialTokens;
    const [stated] = tokenizer.encode(bos ?? eos ?? '', { addSpecialTokens: false });
    this.#prefix = stated ?? tokenizer.bosId ?? tokenizer.eosIds[0];
    this.#prefixText = this.#prefix === undefined ? '' : tokenizer.decode([this.#prefix]);
  }

  /** Encodes a request. @param where names the row in messages. @throws RmError DATA_INVALID if nothing is left to score. */
  encode(request: TextRequest, where: string): TokenRequest {
    const encoded = request.context === '' ? this.#alone(request.continuation) : this.#pair(request);
    if (encoded.context.length > 0 && encoded.continuation.length > 0) return encoded;
    throw new RmError(
      'DATA_INVALID',
      `${where}: the continuation ${JSON.stringify(request.continuation)} adds no token to its context`,
      'Check the row: its text or its answer may be empty.',
    );
  }

  #alone(continuation: string): TokenRequest {
    const ids = this.tokenizer.encode(continuation, { addSpecialTokens: false });
    if (this.#prefix === undefined || ids[0] === this.#prefix) {
      return { context: ids.slice(0, 1), continuation: ids.slice(1) };
    }
    return { context: [this.#prefix], continuation: ids };
  }

  #pair({ context, continuation }: TextRequest): TokenRequest {
    const text = rightStrip(context);
    const whole = this.#tokens(context + continuation);
    if (this.#last?.context !== text) this.#last = { context: text, ids: this.#tokens(text) };
    const { ids } = this.#last;
    return { context: ids, continuation: whole.slice(ids.length) };
  }

  /** A text that already begins with BOS gets no second one. */
  #tokens(text: string): number[] {
    const has = this.#prefixText !== '' && text.startsWith(this.#prefixText);
    return this.tokenizer.encode(text, { addSpecialTokens: !has });
  }
}
