import type { CommandRequest } from '@sepia/cluster/api/commands';
import { MAX_LEASE_COMMANDS } from '@sepia/cluster/api/lease';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { BUDGETS, CommandBook, type LeasedNodes } from '../../../src/commands/core/command-book.ts';

const withNodes = (count: number): LeasedNodes => ({
  count,
  *ids() {
    for (let at = 0; at < count; at++) yield `n${at}`;
  },
});
const DIGEST = `sha256:${'a'.repeat(64)}`;
const command = (id: string, extra: { nodes?: string[]; ttlMs?: number; tag?: string } = {}) =>
  ({
    id,
    type: 'purge',
    detail: { upstream: 'up', repository: 'r', tag: extra.tag ?? 'v1' },
    ttlMs: extra.ttlMs ?? 1_000,
    ...(extra.nodes === undefined ? {} : { nodes: extra.nodes }),
  }) as CommandRequest;
const prefetch = (id: string) =>
  ({
    id,
    type: 'prefetch',
    detail: { upstream: 'up', repository: 'r', manifest: DIGEST },
    ttlMs: 1_000,
  }) as CommandRequest;
const ids = (book: CommandBook, node: string, boot = 'b1', nowMs = 0) =>
  book.due(node, boot, nowMs).commands.map(({ id }) => id);

t.test('a command is handed out until the node reports it', async (t) => {
  const book = new CommandBook();
  t.equal(book.submit(command('c1'), withNodes(2), 0), 'new');
  t.same(ids(book, 'a'), ['c1']);
  t.same(ids(book, 'a'), ['c1'], 'the first answer may have been lost');
  book.report({ nodeId: 'a' }, 'b1', [{ id: 'c1', state: 'running' }]);
  t.same(book.due('a', 'b1', 0), { commands: [], unfinished: true });
  book.report({ nodeId: 'a' }, 'b1', [{ id: 'c1', state: 'done' }]);
  t.same(book.due('a', 'b1', 0), { commands: [], unfinished: false });
  t.same(ids(book, 'b'), ['c1'], 'other nodes still get it');
});

t.test('what an earlier boot left unfinished is handed out again, what it finished is not', async (t) => {
  const book = new CommandBook();
  book.submit(command('c1'), withNodes(1), 0);
  book.submit(command('c2'), withNodes(1), 0);
  book.report({ nodeId: 'a' }, 'b1', [
    { id: 'c1', state: 'running' },
    { id: 'c2', state: 'failed', error: 'x' },
  ]);
  t.same(ids(book, 'a', 'b2'), ['c1']);
});

t.test('the same id is taken once; with another content it is refused', async (t) => {
  const book = new CommandBook();
  t.equal(book.submit(command('c1'), withNodes(1), 0), 'new');
  t.equal(book.submit(command('c1'), withNodes(1), 500), 'known');
  t.equal(book.submit(command('c1', { tag: 'v2' }), withNodes(1), 500), 'other');
  t.equal(book.size, 1);
});

t.test('a command ends with its life, wherever it is', async (t) => {
  const book = new CommandBook();
  book.submit(command('c1'), withNodes(1), 0);
  t.equal(book.due('a', 'b1', 400).commands[0]?.expiresInMs, 600);
  t.same(ids(book, 'a', 'b1', 1_000), []);
  book.expire(1_000);
  t.equal(book.size, 0);
  t.equal(book.state('c1', [], 1_000), undefined);
});

t.test('only the nodes that are named get it', async (t) => {
  const book = new CommandBook();
  book.submit(command('c1', { nodes: ['b', 'gone'] }), withNodes(2), 0);
  t.same(ids(book, 'a'), []);
  t.same(ids(book, 'b'), ['c1']);
  book.report({ nodeId: 'a' }, 'b1', [{ id: 'c1', state: 'done' }]);
  const state = book.state('c1', [{ nodeId: 'a' }, { nodeId: 'b', address: '10.0.0.2:1' }], 0);
  t.same(state?.nodes, [
    { nodeId: 'b', state: 'pending', leased: true, address: '10.0.0.2:1' },
    { nodeId: 'gone', state: 'pending', leased: false },
  ]);
});

t.test('state tells of every node, also of one that has left', async (t) => {
  const book = new CommandBook();
  book.submit(command('c1'), withNodes(2), 0);
  book.report({ nodeId: 'a', address: '10.0.0.1:1' }, 'b1', [
    { id: 'c1', state: 'running', doneBytes: 3, totalBytes: 9 },
  ]);
  t.same(book.state('c1', [{ nodeId: 'b' }], 250), {
    type: 'purge',
    expiresInMs: 750,
    nodes: [
      { nodeId: 'b', state: 'pending', leased: true },
      { nodeId: 'a', state: 'running', leased: false, address: '10.0.0.1:1', doneBytes: 3, totalBytes: 9 },
    ],
  });
});

t.test('commands and reports have a limit', async (t) => {
  const book = new CommandBook();
  const most = BUDGETS.prefetch.commands;
  for (let at = 0; at < most; at++) book.submit(prefetch(`c${at}`), withNodes(10), 0);
  t.equal(book.size, most);
  t.equal(book.submit(prefetch('more'), withNodes(10), 0), 'full');
  t.equal(book.due('a', 'b1', 0).commands.length, MAX_LEASE_COMMANDS);
  t.equal(book.withdraw('c0'), true);
  t.equal(book.withdraw('c0'), false);
  t.equal(book.submit(prefetch('more'), withNodes(10), 0), 'new');
  t.equal(book.submit(prefetch('late'), withNodes(10), 1_000), 'new', 'what has run out takes no room');
  const wide = new CommandBook();
  t.equal(wide.submit(command('wide'), withNodes(2_000_000), 0), 'full', 'too many nodes to keep reports of');
  t.equal(
    wide.submit(command('few', { nodes: ['a'] }), withNodes(2_000_000), 0),
    'new',
    'few are no problem',
  );
});

t.test('what every leased node carried out makes room', async (t) => {
  const book = new CommandBook();
  for (let at = 0; at < BUDGETS.prefetch.commands; at++) book.submit(prefetch(`c${at}`), withNodes(2), 0);
  const say = (node: string, id: string, state: 'done' | 'failed' | 'running'): void =>
    book.report({ nodeId: node }, 'b1', [{ id, state }]);
  say('n0', 'c5', 'done');
  say('gone', 'c5', 'done');
  t.equal(book.submit(prefetch('more'), withNodes(2), 0), 'full', 'n1 has not reported');
  say('n1', 'c5', 'running');
  t.equal(book.submit(prefetch('more'), withNodes(2), 0), 'full', 'n1 has not ended');
  say('n1', 'c5', 'failed');
  t.equal(book.submit(prefetch('more'), withNodes(2), 0), 'new');
  t.equal(book.state('c5', [], 0), undefined);
  t.ok(book.state('c4', [], 0));
});

t.test('property: deletions never refuse other commands, nor each other; limits hold', async () => {
  const step = fc.record({
    kind: fc.constantFrom('purge', 'purge', 'purge', 'prefetch'),
    times: fc.integer({ min: 1, max: 300 }),
    nodes: fc.constantFrom(3, 30, 3_000),
    report: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 8 }), (steps) => {
      const book = new CommandBook();
      const taken = { purge: [] as string[], prefetch: [] as string[] };
      let serial = 0;
      for (const { kind, times, nodes, report } of steps)
        for (let at = 0; at < times; at++) {
          const type = kind as 'purge' | 'prefetch';
          const id = `${type}-${serial++}`;
          const found = book.submit(type === 'purge' ? command(id) : prefetch(id), withNodes(nodes), 0);
          if (found === 'new') taken[type].push(id);
          const room = Math.min(BUDGETS.prefetch.commands, Math.floor(BUDGETS.prefetch.reports / 3_000));
          if (found === 'full' && (type === 'purge' || taken.prefetch.length < room)) return false;
          if (report) book.report({ nodeId: 'n0' }, 'b1', [{ id, state: 'done' }]);
        }
      const alive = (list: string[]): string[] => list.filter((id) => book.state(id, [], 0) !== undefined);
      const left = alive(taken.purge);
      const newest = taken.purge.slice(taken.purge.length - left.length);
      return (
        left.length <= BUDGETS.purge.commands &&
        alive(taken.prefetch).length === taken.prefetch.length &&
        left.join() === newest.join()
      );
    }),
    { numRuns: 60, interruptAfterTimeLimit: 5_000 },
  );
});

t.test('unknown ids in a report are ignored', async (t) => {
  const book = new CommandBook();
  book.report({ nodeId: 'a' }, 'b1', [{ id: 'nothing', state: 'done' }]);
  t.equal(book.size, 0);
});

t.test('property: every node that lives on reports every command once, whatever gets lost', async () => {
  const steps = fc.array(
    fc.record({
      node: fc.constantFrom('a', 'b', 'c'),
      loseAnswer: fc.boolean(),
      reboot: fc.boolean(),
      finish: fc.boolean(),
    }),
    { maxLength: 60 },
  );
  fc.assert(
    fc.property(steps, (list) => {
      const book = new CommandBook();
      for (const id of ['c1', 'c2']) book.submit(command(id, { ttlMs: 1e9 }), withNodes(3), 0);
      const nodes = new Map(
        ['a', 'b', 'c'].map((id) => [id, { boot: 0, running: new Set<string>(), done: new Set<string>() }]),
      );
      const beat = (id: string, step: { loseAnswer: boolean; reboot: boolean; finish: boolean }): void => {
        const node = nodes.get(id)!;
        if (step.reboot) {
          node.boot += 1;
          node.running.clear();
          node.done.clear();
        }
        if (step.finish)
          for (const one of [...node.running]) if (node.running.delete(one)) node.done.add(one);
        const reports = [
          ...[...node.running].map((one) => ({ id: one, state: 'running' as const })),
          ...[...node.done].map((one) => ({ id: one, state: 'done' as const })),
        ];
        book.report({ nodeId: id }, `b${node.boot}`, reports);
        if (step.loseAnswer) return;
        for (const one of book.due(id, `b${node.boot}`, 0).commands)
          if (!node.done.has(one.id)) node.running.add(one.id);
      };
      for (const { node, ...step } of list) beat(node, step);
      const calm = { loseAnswer: false, reboot: false, finish: true };
      for (const id of nodes.keys()) for (let round = 0; round < 3; round++) beat(id, calm);
      const leased = [...nodes.keys()].map((nodeId) => ({ nodeId }));
      for (const id of ['c1', 'c2'])
        if (book.state(id, leased, 0)!.nodes.some((one) => one.state !== 'done')) return false;
      return true;
    }),
    { numRuns: 300 },
  );
});

t.test('a digest may be purged as well', async (t) => {
  const book = new CommandBook();
  const request = { ...command('c1'), detail: { upstream: 'up', repository: 'r', digest: DIGEST } };
  t.equal(book.submit(request as CommandRequest, withNodes(1), 0), 'new');
  t.equal(book.due('a', 'b1', 0).commands[0]?.type, 'purge');
});

t.test('a command for a few nodes takes the room of those alone, also beside many nodes', async (t) => {
  const book = new CommandBook();
  const some = (id: string) => ({ ...prefetch(id), nodes: ['n0', 'n1'] }) as CommandRequest;
  const many = withNodes(BUDGETS.prefetch.reports);
  for (let at = 0; at < BUDGETS.prefetch.commands; at++)
    t.equal(book.submit(some(`c${at}`), many, 0), 'new', `command ${at}`);
  t.equal(book.submit(some('more'), many, 0), 'full', 'commands have a limit of their own');
});
