import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  checkArguments,
  type Form,
  listOf,
  optional,
  RmError,
  reasonOf,
  text,
  whole,
} from '../../engine/index.js';
import { aModel, aReader, maybeFunction, settingsAmong } from '../arguments/forms.js';
import { DecodingSession, type SessionOptions, sessionForms } from '../generation/decodingSession.js';
import { type SamplingOptions, samplingForms } from '../generation/sampler.js';
import { encodeMessages } from '../text/encodeMessages.js';
import type { TextReader } from '../text/textReader.js';
import type { Model } from '../transformer/model.js';
import { Answer, type AnswerForm, chatForm, completionForm } from './answers.js';
import { EventStream } from './eventStream.js';
import { checkHost } from './hostCheck.js';
import { errorBody, HttpFailure, httpFailure } from './httpFailure.js';
import { pageHeaders } from './pageHeaders.js';
import { readJson } from './readJson.js';
import { type Asked, readChat, readCompletion } from './requests.js';
import { type Choice, writeChoices } from './writeChoices.js';

/** A model that a server answers with; it stays the caller's. */
export interface ServedModel {
  /** What requests call it. */
  readonly name: string;
  readonly model: Model;
  readonly reader: TextReader;
  /** How tokens are chosen where a request does not say (default: the most likely one). */
  readonly sampling?: SamplingOptions;
}

/** Settings of a `ModelServer`; those of a session are for each model. */
export interface ServerOptions extends SessionOptions {
  /** A web page, as HTML in one file, that is shown at /. */
  readonly page?: string;
  /** Names of this machine in the Host header, beside localhost, its own name and numeric addresses. */
  readonly hosts?: readonly string[];
  /** Most bytes of a request (default 4 MiB). */
  readonly bodyBytes?: number;
  /** Receives what went wrong here; clients are told of their own errors alone, and of codes. */
  readonly onError?: (error: unknown) => void;
}

const aServedModel: Form<ServedModel> = settingsAmong<ServedModel>({
  ...{ name: text, model: aModel, reader: aReader },
  sampling: optional(settingsAmong<SamplingOptions>(samplingForms)),
});
const serverSettings = settingsAmong<ServerOptions>({
  ...sessionForms,
  page: optional(text),
  hosts: optional(listOf(text)),
  bodyBytes: optional(whole(1)),
  onError: maybeFunction,
});

interface Served extends ServedModel {
  readonly session: DecodingSession;
}

type Handler = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

/**
 * An HTTP server that speaks OpenAI's protocol: /v1/models, /v1/completions and /v1/chat/completions, streamed or not. All
 * requests to a model are written together, in one `DecodingSession`.
 */
export class ModelServer {
  readonly #http: Server;
  readonly #models: readonly Served[];
  readonly #options: ServerOptions;
  readonly #created = Math.floor(Date.now() / 1000);
  readonly #routes: Readonly<Record<string, Readonly<Record<string, Handler>>>>;

  /** @throws RmError INVALID_ARGUMENT for no model, or two of one name. */
  constructor(models: readonly ServedModel[], options: ServerOptions = {}) {
    checkArguments(
      'ModelServer',
      { models, options },
      { models: listOf(aServedModel, 1), options: serverSettings },
    );
    const names = models.map(({ name }) => name);
    const twice = names.find((name, i) => names.indexOf(name) < i);
    if (twice !== undefined) {
      throw new RmError('INVALID_ARGUMENT', `two models are called ${twice}`, 'Give each its own name.');
    }
    this.#options = options;
    const { texts, cacheBytes } = options;
    const perModel = { ...(texts && { texts }), ...(cacheBytes && { cacheBytes }) };
    this.#models = models.map(served => ({
      ...served,
      session: new DecodingSession(served.model, perModel),
    }));
    this.#routes = {
      ...(options.page !== undefined && { '/': { GET: this.#page } }),
      '/v1/models': { GET: this.#list },
      '/v1/completions': { POST: this.#completions },
      '/v1/chat/completions': { POST: this.#chat },
    };
    this.#http = createServer((request, response) => void this.#answer(request, response));
  }

  /**
   * Begins to serve.
   *
   * @param port 0 takes a free one.
   * @param host the address of this machine at which it listens (default 127.0.0.1: this machine alone can reach it).
   * @returns its address, such as http://127.0.0.1:8080.
   * @throws RmError INVALID_ARGUMENT where it cannot listen there.
   */
  async listen(port: number, host = '127.0.0.1'): Promise<string> {
    checkArguments('listen', { port, host }, { port: whole(0, 65535), host: text });
    try {
      this.#http.listen(port, host);
      await once(this.#http, 'listening');
    } catch (error) {
      throw new RmError(
        'INVALID_ARGUMENT',
        `cannot listen at ${host}, port ${port}: ${reasonOf(error)}`,
        'Give another `port` or `host`; port 0 takes a free one.',
      );
    }
    const { address, family, port: found } = this.#http.address() as AddressInfo;
    return `http://${family === 'IPv6' ? `[${address}]` : address}:${found}`;
  }

  /** Takes no more requests, lets those in progress end within `graceMs` (default 0), and frees its memory. */
  async close(graceMs = 0): Promise<void> {
    checkArguments('close', { graceMs }, { graceMs: whole() });
    const closed = new Promise(resolve => this.#http.close(resolve));
    const timer = setTimeout(() => this.#http.closeAllConnections(), graceMs);
    await closed;
    clearTimeout(timer);
    for (const { session } of this.#models) {
      await session.settled();
      session.dispose();
    }
  }

  /** `close`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      checkHost(request.headers, this.#options.hosts ?? []);
      await this.#handler(request)(request, response);
    } catch (error) {
      const failure = httpFailure(error);
      if (failure.status >= 500) this.#options.onError?.(error);
      if (response.destroyed) return;
      if (response.headersSent) {
        await new EventStream(response).send(errorBody(failure));
        response.end();
      } else {
        // The rest of a body that was refused is not read.
        if (!request.complete) response.setHeader('connection', 'close');
        sendJson(response, failure.status, errorBody(failure));
      }
    }
  }

  #handler({ url, method = 'GET' }: IncomingMessage): Handler {
    const path = pathOf(url);
    const name = /^\/v1\/models\/(.+)$/.exec(path)?.[1];
    const methods = Object.hasOwn(this.#routes, path)
      ? this.#routes[path]!
      : name
        ? { GET: this.#one }
        : undefined;
    if (!methods) throw new HttpFailure(404, `there is nothing at ${path}`);
    const handler = Object.hasOwn(methods, method) ? methods[method as keyof typeof methods] : undefined;
    if (handler) return handler;
    throw new HttpFailure(405, `${path} takes ${Object.keys(methods)}, not ${method}`);
  }

  readonly #page: Handler = async (_, response) => {
    const page = this.#options.page!;
    response.writeHead(200, pageHeaders(page)).end(page);
  };

  readonly #list: Handler = async (_, response) => {
    sendJson(response, 200, { object: 'list', data: this.#models.map(served => this.#described(served)) });
  };

  readonly #one: Handler = async ({ url }, response) => {
    const name = pathOf(url).slice('/v1/models/'.length);
    sendJson(response, 200, this.#described(this.#named(decoded(name))));
  };

  #described({ name, model }: Served): object {
    return {
      ...{ id: name, object: 'model', created: this.#created, owned_by: 'rm-engine' },
      max_model_len: model.arch.contextLength,
    };
  }

  #named(name: string | undefined): Served {
    const served = name === undefined ? this.#models[0] : this.#models.find(model => model.name === name);
    if (served) return served;
    const names = this.#models.map(({ name }) => JSON.stringify(name)).join(', ');
    throw new HttpFailure(404, `there is no model ${JSON.stringify(name)} here, only ${names}`, {
      ...{ param: 'model', code: 'model_not_found' },
    });
  }

  readonly #completions: Handler = async (request, response) => {
    const asked = readCompletion(await this.#body(request));
    const served = this.#named(asked.model);
    const { tokenizer } = served.reader;
    const prompts = await Promise.all(
      asked.prompts.map(prompt => (typeof prompt === 'string' ? tokenizer.encode(prompt) : prompt)),
    );
    await write(served, prompts, asked, completionForm, response);
  };

  readonly #chat: Handler = async (request, response) => {
    const asked = readChat(await this.#body(request));
    const served = this.#named(asked.model);
    await write(served, [await encodeMessages(served.reader, asked.messages)], asked, chatForm, response);
  };

  #body(request: IncomingMessage): Promise<Record<string, unknown>> {
    return readJson(request, this.#options.bodyBytes ?? 4 << 20);
  }
}

/** Writes the texts of a request and sends them: each piece at once, or all at the end. */
async function write(
  { name, session, reader, sampling }: Served,
  prompts: readonly (readonly number[])[],
  asked: Asked,
  form: AnswerForm,
  response: ServerResponse,
): Promise<void> {
  const gone = new AbortController();
  // When the client leaves, or one of several texts fails.
  const leave = () => gone.abort(new HttpFailure(499, 'the client has left'));
  response.once('close', leave);
  if (response.destroyed) leave();
  const answer = new Answer(form, name);
  const choices: Choice[] = [];
  const stream = asked.stream ? new EventStream(response) : undefined;
  const opened = new Set<number>();
  const open = async (index: number) => {
    const opening = form.opening();
    if (opening && !opened.has(index)) await stream?.send(answer.chunk(index, opening));
    opened.add(index);
  };
  const usage = await writeChoices(session, reader.tokenizer, prompts, asked, {
    sampling: { ...sampling, ...asked.sampling },
    signal: gone.signal,
    reader: {
      async piece(index, text) {
        if (!stream) return;
        await open(index);
        await stream.send(answer.chunk(index, form.piece(text)));
      },
      async end(choice) {
        choices[choice.index] = choice;
        if (!stream) return;
        await open(choice.index);
        await stream.send(answer.chunk(choice.index, form.closing(), choice.finishReason));
      },
    },
  }).finally(leave);
  if (!stream) return sendJson(response, 200, answer.whole(choices, usage));
  if (asked.streamUsage) await stream.send(answer.usage(usage));
  await stream.end();
}

/** Without what stands behind it. */
const pathOf = (url = '/'): string => url.replace(/[?#].*$/s, '');

function decoded(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    throw new HttpFailure(400, `${JSON.stringify(name)} is no part of a URL`);
  }
}

function sendJson(response: ServerResponse, status: number, body: object): void {
  response
    .writeHead(status, { 'content-type': 'application/json; charset=utf-8', 'cache-control': 'no-store' })
    .end(`${JSON.stringify(body)}\n`);
}
