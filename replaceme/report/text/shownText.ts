/** Controls, line ends that only some programs know, half surrogate pairs, and what takes no room: bidirectional controls too. */
const unseen = /[\p{Cc}\p{Zl}\p{Zp}\p{Cs}\p{Default_Ignorable_Code_Point}\ufff9-\ufffb]/gu;
/** Joiners and variation selectors, which belong to the character before them... */
const attached = /^(?:\u034f|[\u180b-\u180f]|\u200c|\u200d|[\ufe00-\ufe0f]|[\u{e0100}-\u{e01ef}])$/u;
/** ...in the scripts that need them, and in emoji. After a letter of Europe they only hide. */
const carrier =
  /(?:^|\ufe0f|[\p{Extended_Pictographic}\p{Emoji_Modifier}]|(?![\p{Script=Latin}\p{Script=Greek}\p{Script=Cyrillic}\p{Script=Inherited}])[\p{L}\p{M}])$/u;
const plain = /^[\x20-\x7e\n\t]*$/;

const unitsOf = (character: string): string =>
  Array.from(
    { length: character.length },
    (_, i) => `\\u${character.charCodeAt(i).toString(16).padStart(4, '0')}`,
  ).join('');

/**
 * A text in which every character can be seen: what a terminal would obey and what hides (escape sequences, bidirectional
 * controls, zero-width characters) becomes \uXXXX. Newlines and tabs stay. Within JSON it means the same as before.
 */
export function shownText(text: string): string {
  if (plain.test(text)) return text;
  return text.replace(unseen, (character, at: number) => {
    if (character === '\n' || character === '\t') return character;
    const kept =
      attached.test(character) &&
      (text[at + 1] === '\u20e3' || carrier.test(text.slice(Math.max(0, at - 2), at)));
    return kept ? character : unitsOf(character);
  });
}

/** The same for a name that stands within a line: newlines and tabs are shown too. */
export const shownName = (name: string): string => shownText(name).replace(/[\n\t]/g, unitsOf);

/** A value as JSON in which every character can be seen. */
export const shownJson = (value: unknown): string => shownText(JSON.stringify(value, null, 2));
