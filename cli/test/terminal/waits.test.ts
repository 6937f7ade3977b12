import t from 'tap';
import { Waits } from '../../src/terminal/waits.ts';

/** An output that notes what it is told, and work that ends once something was. */
function listener(isTTY: boolean) {
  const lines: string[] = [];
  const { promise, resolve } = Promise.withResolvers<string>();
  const write = (line: string): boolean => {
    lines.push(line);
    resolve('done');
    return true;
  };
  return { out: { isTTY, write }, lines, work: promise };
}

t.test('who does not answer is named, once, and the answer comes all the same', async (t) => {
  const { out, lines, work } = listener(true);
  const waits = new Waits(out, 0);
  const both = [waits.of('origin-1', 30_000, work), waits.of('origin-1', 30_000, work)];
  t.same(await Promise.all(both), ['done', 'done']);
  t.equal(await waits.of('origin-1', 30_000, work), 'done');
  t.same(lines, ['Waiting for origin-1, up to 30.0 s …\n']);
});

t.test('nothing is told of who answers, of short waits, or where no terminal is', async (t) => {
  const { out, lines } = listener(true);
  t.equal(await new Waits(out).of('origin-1', 30_000, Promise.resolve(1)), 1);
  t.equal(await new Waits(out).of('origin-1', 3_000, Promise.resolve(1)), 1);
  await t.rejects(new Waits(out).of('origin-1', 30_000, Promise.reject(new Error('no'))), { message: 'no' });
  const piped = listener(false);
  t.equal(await new Waits(piped.out, 0).of('origin-1', 30_000, Promise.resolve(1)), 1);
  t.same([...lines, ...piped.lines], []);
});
