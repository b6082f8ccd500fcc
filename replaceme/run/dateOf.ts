import type { TextReader } from '../../model/index.js';

/** The date of the chat template as a part of a recipe; nothing where it prints none. */
export const dateOf = ({ chat }: TextReader): { readonly date?: string } =>
  chat.date === null ? {} : { date: chat.date };
