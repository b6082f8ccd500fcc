/**
 * A text without user and password in its URLs (as paths they have one slash), and without their queries, which may be
 * signed. The lengths are bounded so that no text takes long.
 */
export const withoutCredentials = (text: string): string =>
  text
    .replace(/\b([a-z][a-z\d+.-]{1,20}:\/{1,2})[^\s/?#]{0,1024}@/gi, '$1***@')
    .replace(/\b(https?:\/\/[^\s?#'"<>]{0,1024})\?[^\s'"<>]+/gi, '$1?***');
