/**
 * The date for templates that print one, unless the caller gives another: results must not depend on the day. Llama's
 * templates have this date where they cannot ask for today's.
 */
export const FIXED_DATE = '2024-07-26';

/** Whether a text is a date, 2024-07-26, or a date with its time, 2024-07-26T15:00. */
export function isDate(text: string): boolean {
  if (!/^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2})?)?$/.test(text)) return false;
  const time = Date.parse(text.includes('T') ? `${text}Z` : text);
  // Date.parse takes the 31st of February for the 3rd of March.
  return !Number.isNaN(time) && new Date(time).toISOString().startsWith(text) && !text.startsWith('0000');
}
