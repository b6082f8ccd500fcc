// Programs that use the package may not name this library in their own tsconfig.
/// <reference lib="esnext.disposable" preserve="true" />

// Node before 20.5 lacks the symbols that `using` and `await using` look up. Import this before any class that defines them.
for (const name of ['dispose', 'asyncDispose'] as const) {
  if (!(name in Symbol)) Object.defineProperty(Symbol, name, { value: Symbol(`Symbol.${name}`) });
}

export {};
