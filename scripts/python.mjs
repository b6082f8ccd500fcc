// Makes dist/model/jinja/python.zip: what the worker of model/jinja runs, compiled, so that Python starts in one second
// instead of three. It holds our modules of model/jinja/python, Jinja and MarkupSafe as PyPI publishes them, and those
// modules of Python's library that all of these load. Takes ten seconds, once for each state of these files.
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const jinja = join(root, 'model/jinja');
const pyodide = dirname(createRequire(import.meta.url).resolve('pyodide/package.json'));

/** What PyPI says of the two packages. */
const packages = {
  'jinja2-3.1.6-py3-none-any.whl': '85ece4451f492d0c13c5dd7c13a64681a86afae63a5f347908daf103ce6d2f67',
  'markupsafe-3.0.3.tar.gz': '722695808f4b6457b320fdc131280796bdceb04ab50fe1795cd540799ebe1698',
};

const bytes = path => new Uint8Array(readFileSync(path));
const sha256 = (...parts) =>
  parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest('hex');

/** Loads everything once, and puts what was loaded into an archive, compiled. */
const program = `
import importlib, importlib.util, io, os, pkgutil, sys, tarfile, time, zipfile
from importlib._bootstrap_external import _code_to_timestamp_pyc

zipfile.ZipFile('/jinja.whl').extractall('/packages')
markupsafe = tarfile.open('/markupsafe.tar.gz')
for member in markupsafe:
    path = member.name.split('/src/')[-1]
    if path.startswith('markupsafe/') and path.endswith('.py') or member.name.count('/') == 1 and 'LICENSE' in path:
        os.makedirs('/packages/markupsafe', exist_ok=True)
        with open('/packages/markupsafe/' + path.split('/')[-1], 'wb') as file:
            file.write(markupsafe.extractfile(member).read())
sys.path[:0] = ['/own', '/packages']
modules = sorted(os.listdir('/own')) + ['jinja2.debug.py', 'jinja2.ext.py', 'jinja2.sandbox.py']
# What Python loads only when it is asked for.
modules += ['jinja2.constants.py'] + [name + '.py' for name in ('html', 'pprint', 'random', 'urllib.parse', 'traceback', 'decimal', 'fractions', '_strptime')]
modules += ['encodings.' + name + '.py' for name in ('ascii', 'latin_1', 'utf_8_sig', 'utf_16', 'utf_16_le', 'utf_16_be', 'utf_32', 'cp1252',
    'unicode_escape', 'raw_unicode_escape', 'punycode', 'idna')]
for name in modules:
    importlib.import_module(name.removesuffix('.py'))
out = zipfile.ZipFile('/python.zip', 'w', zipfile.ZIP_DEFLATED, compresslevel=9)
def add(name, data):
    out.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
for name in sorted(sys.modules):
    spec = getattr(sys.modules[name], '__spec__', None)
    source = spec and spec.has_location and spec.loader and getattr(spec.loader, 'get_source', lambda name: None)(spec.name)
    if not isinstance(source, str) or spec.name != name:
        continue
    path = name.replace('.', '/') + ('/__init__.py' if spec.submodule_search_locations is not None else '.py')
    code = compile(source, path, 'exec', dont_inherit=True, optimize=0 if name.startswith('jinja2') else 2)
    add(path + 'c', bytes(_code_to_timestamp_pyc(code, 0, 0)))
for path in ('jinja2-3.1.6.dist-info/licenses/LICENSE.txt', 'markupsafe/LICENSE.txt'):
    add(path, open('/packages/' + path, 'rb').read())
out.close()
`;

async function archive() {
  const { loadPyodide } = await import('pyodide');
  const python = await loadPyodide({ jsglobals: {}, env: {} });
  for (const [name, hash] of Object.entries(packages)) {
    const data = bytes(join(jinja, 'packages', name));
    if (sha256(data) !== hash) throw new Error(`${name} is not the file that PyPI publishes`);
    python.FS.writeFile(
      `/${name.replace(/-3[\d.]+\d(-py3-none-any)?/, '').replace('jinja2', 'jinja')}`,
      data,
    );
  }
  python.FS.mkdir('/own');
  for (const name of readdirSync(join(jinja, 'python'))) {
    python.FS.writeFile(`/own/${name}`, bytes(join(jinja, 'python', name)));
  }
  python.runPython(program);
  return python.FS.readFile('/python.zip');
}

const inputs = [
  fileURLToPath(import.meta.url),
  join(pyodide, 'package.json'),
  ...readdirSync(join(jinja, 'python')).map(name => join(jinja, 'python', name)),
];
const kept = join(
  root,
  '.cache',
  `python-${sha256(...inputs.map(path => readFileSync(path))).slice(0, 16)}.zip`,
);
if (!existsSync(kept)) {
  mkdirSync(dirname(kept), { recursive: true });
  const unfinished = `${kept}.${process.pid}`;
  writeFileSync(
    unfinished,
    await archive().catch(error => {
      throw new Error(`python.zip cannot be made: ${String(error.message).slice(0, 2000)}`);
    }),
  );
  renameSync(unfinished, kept);
}
mkdirSync(join(root, 'dist/model/jinja'), { recursive: true });
copyFileSync(kept, join(root, 'dist/model/jinja/python.zip'));
