import { readFileSync, writeFileSync } from 'node:fs';
import { type StartRow, startChart, startTable } from './support/start-chart.ts';

/** `npm run bench -- start-chart FILE.json FILE.svg`: what `start --out FILE.json` found, as a chart and a table. */
const [from, to] = process.argv.slice(2);
if (from === undefined || to === undefined) {
  process.stderr.write('usage: start-chart FILE.json FILE.svg\n');
  process.exitCode = 2;
} else {
  const { results } = JSON.parse(readFileSync(from, 'utf8')) as {
    results: { link: string; rows: StartRow[]; idlePercent: number };
  };
  const { link, rows, idlePercent } = results;
  writeFileSync(to, startChart(rows, `Ready after, link ${link}; ${idlePercent} % of the machine idle`));
  process.stdout.write(startTable(rows));
}
