/** Documents in the forms that files of texts hold. */
export const documents: readonly object[] = [
  { text: 'First text.\n\nWith a blank line.' },
  {
    messages: [
      { role: 'user', content: 'hello' },
      { role: 'assistant', content: 'hi' },
    ],
  },
  {
    conversations: [
      { from: 'human', value: 'a' },
      { from: 'gpt', value: 'b' },
    ],
  },
  {
    messages: [
      { role: 'user', content: [{ type: 'text', text: 'part' }] },
      { role: 'assistant', content: null, tool_calls: [] },
    ],
  },
  { text: 'é漢字😀', id: 3, meta: { a: [1, 2.5, null] } },
];

export const documentWords: readonly string[] = [
  ...[
    'text',
    'messages',
    'conversations',
    'role',
    'content',
    'from',
    'value',
    'system',
    'user',
    'assistant',
    'human',
    'gpt',
  ],
  ...['tool', 'tools', 'tool_calls', 'function_call', 'reasoning_content', 'type', 'prompt', 'completion'],
];
