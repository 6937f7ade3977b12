import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { MemberClock } from '@sepia/base/clock/member-clock';
import type { Digest } from '@sepia/base/digest';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { PROXY } from '@sepia/cluster/api/proxy';
import { to } from '@sepia/cluster/api/route';
import type { StartProfile } from '@sepia/cluster/api/start-profile';
import { InternalClient } from '@sepia/http/client';
import { createDispatcher } from '@sepia/http/sockets';
import {
  areDone,
  type ConversionCluster,
  conversionCluster,
} from '@sepia/test-support/cluster/conversion-cluster';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { request } from 'undici';
import { keepProfile } from '../../../cli/src/lazy/keep-profile.ts';

const RULES = [{ name: 'lazy', from: 'local', repositories: ['team/**'], profile: true }];
const NAME = { upstream: 'local', repository: parseRepositoryName('team/app') };

type Ask = Parameters<typeof keepProfile>[0]['askProxy'];

function operatorOf(t: Test, here: ConversionCluster): { askProxy: Ask } {
  const dispatcher = createDispatcher();
  t.teardown(() => dispatcher.destroy());
  const clusterKey = Buffer.from(readFileSync(here.cluster.keyFile, 'utf8').trim(), 'hex');
  const client = new InternalClient({ dispatcher, clusterKey, memberId: 'cli', clock: new MemberClock() });
  return {
    askProxy: async (call) =>
      await client.json({ headersTimeoutMs: 10_000, ...call, url: here.proxy, to: 'proxy-1' }),
  };
}

async function profileOf(operator: { askProxy: Ask }, manifest: string): Promise<StartProfile | undefined> {
  const line = to(PROXY.profile, { ...NAME, manifest: manifest as Digest });
  return (await operator.askProxy<{ profile?: StartProfile }>(line)).profile;
}

/** Whether the first layer of a result says that some of its files come first. */
async function comesFirst(here: ConversionCluster, tag: string): Promise<boolean> {
  const [layer] = (await here.manifest('team/app', tag))!.layers;
  const { body } = await request(`${here.proxy}/v2/team/app/blobs/${layer!.digest}`);
  const tar = gunzipSync(Buffer.from(await body.arrayBuffer()));
  const names = ['.prefetch.landmark', '.no.prefetch.landmark'].filter((name) => tar.includes(`${name}\0`));
  return names.includes('.prefetch.landmark') && !names.includes('.no.prefetch.landmark');
}

async function converted(here: ConversionCluster, tag: string): Promise<void> {
  const before = (await here.jobs()).length;
  await here.webhook('PUSH_ARTIFACT', 'team/app', tag);
  const isDone = async (): Promise<boolean> => {
    const jobs = await here.jobs();
    return jobs.length > before && areDone(jobs);
  };
  await until(isDone, `${tag} is converted`, 60_000);
}

t.test('a list that is kept is the image’s, and of what comes after it', { timeout: 180_000 }, async (t) => {
  const here = await conversionCluster(t, RULES);
  const operator = operatorOf(t, here);
  await here.start('accelerator-1');
  const first = await here.push('team/app', '1', 'hello');
  t.equal(await profileOf(operator, first), undefined);
  await converted(here, '1');
  t.notOk(await comesFirst(here, '1-estargz'), 'nothing was recorded');

  const recorded = { image: `local/team/app@${first}`, paths: ['/file', '/not/there'], unseen: [] };
  t.same(await keepProfile(operator, NAME, recorded), recorded.paths);
  t.match(await profileOf(operator, first), { manifest: first, paths: ['/file', '/not/there'], by: 'cli' });
  const second = await here.push('team/app', '2', 'hello again');
  t.match(await profileOf(operator, second), { manifest: first }, 'the next build starts as the last');
  await converted(here, '2');
  t.ok(await comesFirst(here, '2-estargz'));

  await keepProfile(operator, NAME, { image: `local/team/app@${second}`, paths: ['/b'], unseen: [] });
  await keepProfile(operator, NAME, { image: `local/team/app@${first}`, paths: ['/c'], unseen: [] });
  t.match(await profileOf(operator, first), { paths: ['/c'] }, 'replaced');
  t.match(await profileOf(operator, second), { paths: ['/b'] }, 'beside it');
});

t.test('what is kept is bounded, and asked for by members only', { timeout: 120_000 }, async (t) => {
  const here = await conversionCluster(t, RULES);
  const operator = operatorOf(t, here);
  const manifest = await here.push('team/app', '1', 'hello');
  const paths = Array.from({ length: 9_000 }, (_none, index) => `/usr/lib/python3/file-${index}.py`);
  const recorded = { image: `local/team/app@${manifest}`, paths, unseen: [] };
  const kept = (await keepProfile(operator, NAME, recorded)).length;
  t.ok(kept > 1_000 && kept < 2_000, `${kept} files of 9,000`);
  t.same((await profileOf(operator, manifest))?.paths, paths.slice(0, kept));
  const put = {
    ...to(PROXY.profilePut, NAME),
    json: { profile: { manifest, paths: paths.slice(0, kept + 1) } },
  };
  await t.rejects(operator.askProxy(put), { code: 'REQUEST_INVALID' });
  const { method, path } = to(PROXY.profile, { ...NAME, manifest: manifest as Digest });
  t.equal((await request(`${here.proxy}${path}`, { method: method as 'GET' })).statusCode, 403);
});
