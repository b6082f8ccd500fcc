/** A colour on light and on dark ground. */
interface Colour {
  readonly light: string;
  readonly dark: string;
}

/**
 * Colours of pages and plots. Lines and marks have a contrast of 3 to 1 with their ground, text 4.5 to 1 (WCAG 2.2, AA).
 * The four series colours differ in all common kinds of colour vision (after Okabe and Ito), and each series also has its
 * own shape.
 */
export const palette = {
  ground: { light: '#ffffff', dark: '#14171c' },
  ink: { light: '#1b1f24', dark: '#e8eaed' },
  muted: { light: '#57606a', dark: '#a4adb8' },
  axis: { light: '#7f8994', dark: '#76808c' },
  rule: { light: '#dfe3e8', dark: '#2e343c' },
  shade: { light: '#eef0f3', dark: '#22272e' },
  blue: { light: '#0b65b5', dark: '#63b3ff' },
  vermillion: { light: '#c24a00', dark: '#ff9354' },
  green: { light: '#00785a', dark: '#35c496' },
  purple: { light: '#9a3d86', dark: '#e08fd0' },
} as const satisfies Record<string, Colour>;

/** From near to far; the nearest is the strongest on either ground (ColorBrewer's YlGnBu, from both ends). */
export const heatColours: readonly Colour[] = [
  { light: '#081d58', dark: '#ffffd8' },
  { light: '#253494', dark: '#e4f4b1' },
  { light: '#225ea8', dark: '#bfe6b5' },
  { light: '#1d91c0', dark: '#7fcdba' },
  { light: '#41b6c4', dark: '#3fb4c2' },
  { light: '#7fcdbb', dark: '#1c8fbe' },
  { light: '#c7e9b4', dark: '#215ca4' },
  { light: '#edf8b1', dark: '#263590' },
  { light: '#ffffd9', dark: '#1a2560' },
];

/**
 * Style rules that turn a drawing in light colours into one for dark ground. The drawing itself has plain colours, so that
 * programs without style sheets can show it too.
 */
export const darkDrawingRules = (selector: string): string =>
  [...Object.values(palette), ...heatColours]
    .flatMap(({ light, dark }) => [
      `${selector} [fill="${light}"]{fill:${dark}}`,
      `${selector} [stroke="${light}"]{stroke:${dark}}`,
    ])
    .join('\n');
