// What node:test prints for `npm run coverage`: test files that failed, and what of the judged files no test reaches.
import { relative } from 'node:path';

const ROOT = process.cwd();

// biome-ignore lint/style/noDefaultExport: node:test finds a reporter by it.
export default async function* report(source) {
  for await (const { type, data } of source) {
    if (type === 'test:fail' && data.nesting === 0) yield `FAILED ${relative(ROOT, data.name)}\n`;
    if (type === 'test:coverage') yield* coverage(data.summary);
    if (type === 'test:diagnostic' && data.level === 'error') yield `FAILED ${data.message}\n`;
  }
}

function* coverage({ files, totals }) {
  const open = files.filter((file) => file.coveredLinePercent < 100 || file.coveredBranchPercent < 100);
  for (const file of open) {
    const lines = file.lines.filter(({ count }) => count === 0).map(({ line }) => line);
    const branches = file.branches.filter(({ count }) => count === 0).map(({ line }) => line);
    yield `${relative(ROOT, file.path)}: lines ${list(lines)}; branches at ${list(branches)}\n`;
  }
  const whole = files.length - open.length;
  yield `${files.length} files, ${whole} of them whole: ${percent(totals.coveredLinePercent)} of lines, `;
  yield `${percent(totals.coveredBranchPercent)} of branches\n`;
}

function list(lines) {
  return lines.length === 0 ? '-' : [...new Set(lines)].join(', ');
}

function percent(value) {
  return `${value.toFixed(2)} %`;
}
