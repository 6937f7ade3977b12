/** One start, in its parts. */
export interface StartRow {
  readonly image: string;
  readonly mode: string;
  readonly pullMs: number;
  readonly createMs: number;
  readonly runMs: number;
  /** What the registry sent, in units of 10⁶ bytes. */
  readonly megabytes: number;
  /** L4: of the pieces that the start touched, where that is known. */
  readonly touchedMegabytes?: number;
}

const PARTS = [
  { key: 'pullMs', name: 'pull', colour: '#4c78a8' },
  { key: 'createMs', name: 'create', colour: '#72b7b2' },
  { key: 'runMs', name: 'run', colour: '#f58518' },
] as const;
const LEFT = 240;
const WIDTH = 560;
const BAR = 18;
const STEP = 26;
const TOP = 48;

/** A bar for each start, stacked of pull, create and run; seconds. */
export function startChart(rows: readonly StartRow[], title: string): string {
  const totalOf = (row: StartRow): number => row.pullMs + row.createMs + row.runMs;
  const scale = WIDTH / Math.max(1, ...rows.map(totalOf));
  const bars = rows.map((row, at) => barOf(row, TOP + at * STEP, scale));
  const legend = PARTS.map(
    ({ name, colour }, at) =>
      `<rect x="${LEFT + at * 90}" y="26" width="12" height="12" fill="${colour}"/><text x="${LEFT + 18 + at * 90}" y="36">${name}</text>`,
  );
  const height = TOP + rows.length * STEP + 12;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${LEFT + WIDTH + 80} ${height}" font-family="sans-serif" font-size="12">`,
    `<title>${title}</title><rect width="100%" height="100%" fill="#fff"/>`,
    `<text x="8" y="18" font-size="14">${title}</text>`,
    ...legend,
    ...bars,
    '</svg>\n',
  ].join('\n');
}

/** The same as a table in Markdown. */
export function startTable(rows: readonly StartRow[]): string {
  const seconds = (ms: number): string => (ms / 1000).toFixed(1);
  const lines = rows.map((row) => {
    const parts = [row.pullMs, row.createMs, row.runMs, row.pullMs + row.createMs + row.runMs].map(seconds);
    return `| ${[row.image, row.mode, ...parts, row.megabytes].join(' | ')} |\n`;
  });
  const head = '| image | mode | pull | create | run | ready after, s | registry sent, MB |\n';
  return `${head}| --- | --- | --- | --- | --- | --- | --- |\n${lines.join('')}`;
}

function barOf(row: StartRow, y: number, scale: number): string {
  let x = LEFT;
  const boxes = PARTS.map(({ key, colour }) => {
    const width = row[key] * scale;
    const box = `<rect x="${x.toFixed(1)}" y="${y}" width="${width.toFixed(1)}" height="${BAR}" fill="${colour}"/>`;
    x += width;
    return box;
  });
  const total = ((row.pullMs + row.createMs + row.runMs) / 1000).toFixed(1);
  const label = `<text x="${LEFT - 8}" y="${y + 13}" text-anchor="end">${row.image}, ${row.mode}</text>`;
  return `${label}${boxes.join('')}<text x="${(x + 6).toFixed(1)}" y="${y + 13}">${total} s</text>`;
}
