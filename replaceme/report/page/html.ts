import { shownText } from '../text/shownText.js';

/** Text that is already HTML; all other content is escaped. */
export class Markup {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  toString(): string {
    return this.#text;
  }
}

/** The content of a template; undefined, null and false render as nothing. */
export type Content = Markup | string | number | undefined | null | false | readonly Content[];

const signs: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** Escapes text for elements and for quoted attribute values, and shows what hides or reorders it. */
export const escapeHtml = (text: string): string => shownText(text).replace(/[&<>"']/g, sign => signs[sign]!);

function rendered(content: Content): string {
  if (content === undefined || content === null || content === false) return '';
  if (content instanceof Markup) return content.toString();
  if (Array.isArray(content)) return content.map(rendered).join('');
  return escapeHtml(`${content as string | number}`);
}

/** A piece of HTML: html`<p class="${name}">${text}</p>`. Attribute values must stand in double quotes. */
export const html = (strings: TemplateStringsArray, ...values: readonly Content[]): Markup =>
  new Markup(strings.map((string, i) => (i === 0 ? string : rendered(values[i - 1]) + string)).join(''));
