// SPDX-License-Identifier: Apache-2.0
// Reads documents of Kubernetes, a JSON array of {name, text}, from standard input, and says of each what is wrong with it, a line each:
// what the schemas of its kind say, and, since those let pass whatever they do not know, what TypeScript says of it as a literal of its
// kind's type. Prints the documents as JSON behind a line of "---". Lies and runs in a folder with node_modules.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import YAML from 'yaml';

const wrong = [], documents = [];
let source = '';

function packageOf(apiVersion) {
  return (apiVersion.startsWith('monitoring.coreos.com/') ? '@kubernetes-models/prometheus-operator/' : 'kubernetes-models/') + apiVersion;
}

for (const { name, text } of JSON.parse(fs.readFileSync(0, 'utf8'))) {
  for (const parsed of YAML.parseAllDocuments(text, { uniqueKeys: true })) {
    for (const error of [...parsed.errors, ...parsed.warnings]) wrong.push(`${name}: ${error.message.split('\n')[0]}`);
    const object = parsed.toJS();
    if (object === null) continue;
    const at = `${name} ${object.kind}/${object.metadata?.name}`;
    documents.push({ name, object });
    let Model;
    try {
      Model = (await import(packageOf(object.apiVersion)))[object.kind];
    } catch {
      Model = undefined;
    }
    if (Model === undefined) {
      wrong.push(`${at}: there is no ${object.kind} in ${object.apiVersion}`);
      continue;
    }
    try {
      new Model(object).validate();
    } catch (error) {
      wrong.push(`${at}: ${error.message}`);
    }
    const number = documents.length;
    // One line a document, so that a line of the compiler's says which one it is about.
    source += `import type { I${object.kind} as K${number} } from '${packageOf(object.apiVersion)}'; ` +
      `export const d${number}: K${number} = ${JSON.stringify(object)}; // ${at}\n`;
  }
}
fs.writeFileSync('documents.ts', source);
try {
  execFileSync('node_modules/.bin/tsc', ['--noEmit', '--strict', '--skipLibCheck', '--module', 'nodenext', '--moduleResolution', 'nodenext',
    '--target', 'es2022', '--pretty', 'false', 'documents.ts'], { encoding: 'utf8' });
} catch (error) {
  const lines = source.split('\n');
  for (const [, line, text] of error.stdout.matchAll(/^documents\.ts\((\d+),\d+\): error (.*)$/gm))
    wrong.push(`${lines[line - 1].replace(/.*; \/\/ /, '')}: ${text}`);
  if (!/^documents\.ts\(/m.test(error.stdout)) wrong.push(`tsc: ${error.stdout}${error.stderr}`);
}
for (const line of wrong) console.log(line);
console.log(`---\n${JSON.stringify(documents)}`);
