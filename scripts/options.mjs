// Writes what follows from the tables of replaceme/options: docs/options.md, and the recipes in docs/report.schema.json.
// Expects a build; npm run docs:options makes one.
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { optionsPage, recipeSchemas } from '../dist/cli/optionsReference.js';

const docs = join(dirname(fileURLToPath(import.meta.url)), '../docs');
const path = join(docs, 'report.schema.json');
const schema = JSON.parse(readFileSync(path, 'utf8'));
for (const [name, properties] of Object.entries(recipeSchemas())) {
  schema.$defs[name].properties.recipe.properties = properties;
}
writeFileSync(path, `${JSON.stringify(schema, null, 2)}\n`);
writeFileSync(join(docs, 'options.md'), optionsPage());
