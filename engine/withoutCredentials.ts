/** A text without user and password in its URLs (as paths they have one slash), and without their queries, which may be signed. */
export const withoutCredentials = (text: string): string =>
  text
    .replace(/\b([a-z][a-z\d+.-]+:\/{1,2})[^\s/?#]*@/gi, '$1***@')
    .replace(/\b(https?:\/\/[^\s?#'"<>]*)\?[^\s'"<>]+/gi, '$1?***');
