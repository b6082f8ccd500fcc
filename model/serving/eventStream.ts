import { once } from 'node:events';
import type { ServerResponse } from 'node:http';

/** Server-sent events: an object each, as OpenAI's clients read them. The head is sent with the first. */
export class EventStream {
  constructor(private readonly response: ServerResponse) {}

  /** Sends an object; waits where the client reads more slowly than it is written. */
  send(data: object): Promise<void> {
    return this.#write(JSON.stringify(data));
  }

  /** Ends the stream. */
  async end(): Promise<void> {
    await this.#write('[DONE]');
    this.response.end();
  }

  async #write(data: string): Promise<void> {
    const { response } = this;
    if (response.destroyed) return;
    if (!response.headersSent) {
      response.writeHead(200, {
        'content-type': 'text/event-stream; charset=utf-8',
        'cache-control': 'no-store',
      });
    }
    if (response.write(`data: ${data}\n\n`)) return;
    const gone = new AbortController();
    const left = () => gone.abort();
    response.once('close', left);
    // Who has left needs no answer: the request's signal ends the text.
    await once(response, 'drain', { signal: gone.signal }).catch(() => {});
    response.off('close', left);
  }
}
