/** Forms of the arguments that many public functions of this floor take. */
import {
  callable,
  Device,
  type Form,
  type FormsOf,
  instanceOf,
  listOf,
  numeric,
  objectWith,
  oneOf,
  optional,
  settings,
  text,
} from '../../engine/index.js';

export const aDevice: Form<Device> = instanceOf(Device, 'a device');
/** By what it has, since the classes would make a circle of imports. */
export const aModel = objectWith('a model, as Model.load returns it', 'arch', 'weights', 'device');
export const aBatch = objectWith('a Batch', 'sequences', 'places');
export const aTokenizer = objectWith('a tokenizer, as loadTokenizer returns it', 'encode', 'decode');
export const aChat = objectWith('a chat template, as loadChatTemplate returns it', 'available', 'renderChat');
export const aReader = objectWith('a reader, as openTextReader returns it', 'tokenizer', 'chat');
export const referenceStates = objectWith('the result of ReferenceStates.of', 'sequences', 'groups');
export const anArchitecture = objectWith('an architecture', 'layers', 'hidden', 'norm');
export const aSource = objectWith('the result of openModelSource', 'nameOf');

/** A path or a name: not empty, and without the character that ends texts in C. */
export const aPath: Form<string> = (value, place) =>
  typeof value === 'string' && value !== '' && !value.includes('\0')
    ? undefined
    : (text(value, place) ?? `${place} is ${JSON.stringify(value)}, not a path`);

/** What is no token of the vocabulary is refused where they are embedded. */
export const tokenIds = listOf(numeric);
export const tokenLists = listOf(tokenIds);
export const maybeFunction = optional(callable);
export const maybeSignal = optional(objectWith('an AbortSignal', 'aborted', 'throwIfAborted'));
export const maybeDtype = optional(oneOf('f32', 'f16', 'bf16'));
/** What may be iterated with `for await`. */
export const manyThings: Form<unknown> = (value, place) =>
  typeof value === 'object' && value !== null && (Symbol.iterator in value || Symbol.asyncIterator in value)
    ? undefined
    : `${place} is no list and no async iterable`;
/** An object with these settings among others: callers hand on those of a whole run. */
export const settingsAmong = <T extends object>(forms: FormsOf<T>): Form<T> => settings<T>(forms, 'allowed');

/** Settings that run with progress and can be stopped. */
export const runForms = { onProgress: maybeFunction, signal: maybeSignal };
