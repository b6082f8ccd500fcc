import { RmError } from '../../engine/index.js';

/** A request that is answered with an error, in OpenAI's form. */
export class HttpFailure extends Error {
  constructor(
    readonly status: number,
    message: string,
    /** The field that is wrong, and a word for programs. */
    readonly details: { readonly param?: string; readonly code?: string } = {},
  ) {
    super(message);
  }
}

const statuses: Readonly<Record<string, number>> = {
  INVALID_ARGUMENT: 400,
  DATA_INVALID: 400,
  OUT_OF_MEMORY: 503,
};

/** The failure that any error is to a client: what it did wrong, or that something is wrong here. */
export function httpFailure(error: unknown): HttpFailure {
  if (error instanceof HttpFailure) return error;
  if (!(error instanceof RmError)) return new HttpFailure(500, 'the server failed');
  return new HttpFailure(statuses[error.code] ?? 500, `${error.message}. ${error.fix}`, { code: error.code });
}

/** The body of an error. */
export const errorBody = ({ status, message, details }: HttpFailure): object => ({
  error: {
    message,
    type: status < 500 ? 'invalid_request_error' : 'server_error',
    param: details.param ?? null,
    code: details.code ?? null,
  },
});
