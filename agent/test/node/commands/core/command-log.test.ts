import type { NodeCommand } from '@sepia/cluster/api/commands';
import t from 'tap';
import { ownChildren } from '../../../../src/manifests/core/platform.ts';
import { CommandLog } from '../../../../src/node/commands/core/command-log.ts';

const command = (id: string) =>
  ({ id, type: 'purge', expiresInMs: 1_000, detail: { upstream: 'up', repository: 'r' } }) as NodeCommand;

t.test('a command is taken once, whoever hands it out', async (t) => {
  const log = new CommandLog();
  t.equal(log.take('t1', [command('c1')]).length, 1);
  t.equal(log.take('t2', [command('c1')]).length, 0);
  t.equal(log.take('t1', [command('c1')]).length, 0);
  t.equal(log.open, 1);
});

t.test('every tracker hears of each state once', async (t) => {
  const log = new CommandLog();
  log.take('t1', [command('c1')]);
  for (const tracker of ['t1', 't2']) {
    const { reports, versions } = log.reports(tracker);
    t.same(reports, [{ id: 'c1', state: 'running' }], tracker);
    log.told(tracker, versions);
    t.same(log.reports(tracker).reports, [], tracker);
  }
  t.equal(log.hasNews('t1'), false);
  log.note({ id: 'c1', state: 'done', doneBytes: 5, totalBytes: 5 });
  t.equal(log.hasNews('t1'), true);
  t.same(log.reports('t1').reports, [{ id: 'c1', state: 'done', doneBytes: 5, totalBytes: 5 }]);
});

t.test('a lost heartbeat is said again; a state that came meanwhile is not taken as told', async (t) => {
  const log = new CommandLog();
  log.take('t1', [command('c1')]);
  const { versions } = log.reports('t1');
  log.note({ id: 'c1', state: 'failed', error: 'disk' });
  log.told('t1', versions);
  t.same(log.reports('t1').reports, [{ id: 'c1', state: 'failed', error: 'disk' }]);
});

t.test('a tracker that hands a finished command out again has forgotten: it is told again', async (t) => {
  const log = new CommandLog();
  log.take('t1', [command('c1')]);
  log.note({ id: 'c1', state: 'done' });
  log.told('t1', log.reports('t1').versions);
  t.equal(log.take('t1', [command('c1')]).length, 0);
  t.same(log.reports('t1').reports, [{ id: 'c1', state: 'done' }]);
});

t.test('an end is final', async (t) => {
  const log = new CommandLog();
  log.take('t1', [command('c1')]);
  log.note({ id: 'c1', state: 'done' });
  log.note({ id: 'c1', state: 'running' });
  log.note({ id: 'never-taken', state: 'done' });
  t.same(log.reports('t1').reports, [{ id: 'c1', state: 'done' }]);
});

t.test('what waits is bounded, what is finished is forgotten at last', async (t) => {
  const log = new CommandLog();
  const many = Array.from({ length: 70 }, (_, at) => command(`c${at}`));
  t.equal(log.take('t1', many).length, 64, 'the rest stays with the tracker');
  for (const { id } of many) log.note({ id, state: 'done' });
  t.equal(log.take('t1', many).length, 6);
  for (const { id } of many) log.note({ id, state: 'done' });
  for (let round = 0; round < 20; round++) {
    const next = Array.from({ length: 60 }, (_, at) => command(`r${round}-${at}`));
    t.equal(log.take('t1', next).length, 60, `round ${round}`);
    for (const { id } of next) log.note({ id, state: 'done' });
  }
  t.equal(log.take('t1', [command('c0')]).length, 1, 'forgotten, so it would run again');
});

t.test('a node takes the children of its own platform, or all', async (t) => {
  const child = (digest: string, os: string, architecture: string) => ({
    digest,
    platform: { os, architecture },
  });
  const index = [child('a', 'linux', 'amd64'), child('b', 'linux', 'arm64'), child('c', 'windows', 'amd64')];
  t.same(ownChildren(index, 'amd64'), ['a']);
  t.same(ownChildren(index, 's390x'), ['a', 'b', 'c']);
  t.same(ownChildren([{ digest: 'x', platform: undefined }], 'amd64'), ['x']);
  t.same(ownChildren([{ digest: 'x', platform: 'odd' }, ...index], 'arm64'), ['b']);
});

t.test('the end of a command is news to a tracker that never heard of it', async (t) => {
  const log = new CommandLog();
  log.take('t1', [command('c1')]);
  t.equal(log.hasNews('t2'), false, 'it runs');
  log.note({ id: 'c1', state: 'done' });
  t.equal(log.hasNews('t2'), true);
});

t.test('what still runs is remembered, however much ended since', async (t) => {
  const log = new CommandLog();
  log.take('t1', [command('long')]);
  for (let round = 0; round < 30; round++) {
    const next = Array.from({ length: 60 }, (_, at) => command(`r${round}-${at}`));
    log.take('t1', next);
    for (const { id } of next) log.note({ id, state: 'done' });
  }
  t.equal(log.take('t1', [command('r0-0'), command('long')]).length, 1, 'only what ended runs again');
  t.equal(log.open, 2);
});
