import type { ConversionOutcome } from '@sepia/cluster/api/conversions';
import { pushManifest } from '@sepia/test-support/clients/registry-calls';
import { type ConversionCluster, conversionCluster } from '@sepia/test-support/cluster/conversion-cluster';
import { until } from '@sepia/test-support/until';
import t from 'tap';

const RULES = [
  { name: 'both', from: 'local', repositories: ['both/**'], result: 'image-index' },
  {
    name: 'beside',
    from: 'local',
    repositories: ['beside/**'],
    result: 'referrer',
    'delete-with-source': true,
  },
  {
    name: 'elsewhere',
    from: 'local',
    repositories: ['team/**', 'both/**', 'beside/**'],
    repository: 'lazy/{repository}',
    'tag-suffix': '',
    'delete-with-source': true,
  },
  // Names everything, the results of the others too.
  { name: 'all', from: 'local', repositories: ['**'], 'tag-suffix': '-all' },
];
const SOURCE = 'io.sepia.conversion.source';

// Several clusters one after the other, each with its waits.
t.setTimeout(300_000);

/** What became of the job of a rule for a tag, once it is over. */
async function outcomeOf(
  here: ConversionCluster,
  rule: string,
  repository: string,
  tag: string,
  kind = 'convert',
): Promise<ConversionOutcome> {
  let outcome: ConversionOutcome | undefined;
  await until(
    async () => {
      const job = (await here.jobs()).find(
        ({ payload }) =>
          payload.rule === rule &&
          payload.repository === repository &&
          payload.tag === tag &&
          payload.kind === kind,
      );
      outcome = job?.state === 'done' ? job.result : undefined;
      return outcome !== undefined;
    },
    `${rule} is done with ${repository}:${tag}`,
    60_000,
  );
  return outcome!;
}

t.test('results in an index with their source, and as its referrers', { timeout: 240_000 }, async (t) => {
  const here = await conversionCluster(t, RULES);
  await here.start('accelerator-1', { workers: 4 });
  const repush = async (repository: string, tag: string, manifest: object): Promise<void> => {
    await pushManifest(here.proxy, repository, manifest, tag);
    t.equal(await here.webhook('PUSH_ARTIFACT', repository, tag), 202);
  };

  const both = await here.push('both/app', '1', 'hello');
  await here.webhook('PUSH_ARTIFACT', 'both/app', '1');
  const made = await outcomeOf(here, 'both', 'both/app', '1');
  t.match(made, { outcome: 'converted', source: both, target: /both\/app:1-estargz$/ });
  const index = (await here.manifest('both/app', '1-estargz'))!;
  t.equal(index.digest, made.digest);
  t.match(index, { annotations: { [SOURCE]: both }, manifests: [{ digest: both }, {}] });
  const platform = { os: 'linux', architecture: 'amd64' };
  t.strictSame(index.manifests![0]!.platform, platform, 'who takes the first gets the source');
  t.strictSame(index.manifests![1]!.platform, { ...platform, 'os.features': ['sepia.estargz'] });
  const child = (await here.manifest('both/app', index.manifests![1]!.digest))!;
  t.equal(child.annotations[SOURCE], both);

  const beside = await here.push('beside/app', '1', 'hello');
  await here.webhook('PUSH_ARTIFACT', 'beside/app', '1');
  t.match(await outcomeOf(here, 'beside', 'beside/app', '1'), {
    outcome: 'converted',
    target: /beside\/app@/,
  });
  const [referrer] = await here.referrers('beside/app', beside);
  t.match(referrer?.annotations, { [SOURCE]: beside, 'io.sepia.conversion.format': 'estargz' });
  const result = (await here.manifest('beside/app', referrer!.digest))!;
  t.equal(result.subject?.digest, beside);
  t.match(await outcomeOf(here, 'elsewhere', 'beside/app', '1'), { outcome: 'converted' });
  t.notOk(
    'lost' in (await outcomeOf(here, 'elsewhere', 'beside/app', '1')),
    'a result is nothing that gets lost',
  );

  // Pushed anew by whom it may be, as replication does: under another name, elsewhere, its parts alone.
  const { digest: _index, ...indexJson } = index;
  const { digest: _child, ...childJson } = child;
  const { digest: _result, ...resultJson } = result;
  await repush('both/app', 'renamed', indexJson);
  await repush('both/app', 'part', childJson);
  await repush('beside/app', 'named', resultJson);
  for (const [repository, tag] of [
    ['both/app', 'renamed'],
    ['both/app', 'part'],
    ['beside/app', 'named'],
  ] as const)
    for (const rule of [repository.split('/')[0]!, 'elsewhere', 'all'])
      t.match(
        await outcomeOf(here, rule, repository, tag),
        { outcome: 'skipped', reason: 'it is a result of a conversion' },
        `${rule} leaves ${repository}:${tag} alone`,
      );
  await here.webhook('PUSH_ARTIFACT', 'lazy/both/app', '1');
  t.match(
    await outcomeOf(here, 'all', 'lazy/both/app', '1'),
    { outcome: 'skipped' },
    'known by what it says only',
  );

  t.equal(await here.remove('beside/app', beside), 202);
  await here.webhook('DELETE_ARTIFACT', 'beside/app', '1', undefined, beside);
  t.match(await outcomeOf(here, 'beside', 'beside/app', '1', 'remove'), { outcome: /^(?:removed|skipped)$/ });
  t.same(await here.referrers('beside/app', beside), []);
  t.equal(await here.manifest('beside/app', result.digest), undefined, 'the result is gone with its source');
});

t.test('what other services made is left alone', { timeout: 120_000 }, async (t) => {
  const here = await conversionCluster(t, [RULES[3]!]);
  await here.start('accelerator-1', { workers: 4 });
  const TOC = 'containerd.io/snapshot/stargz/toc.digest';
  const ordinary = (await here.manifest('x', await here.push('x', 'plain', 'plain')))!;
  const [layer] = ordinary.layers;
  const { digest: _, ...json } = ordinary;
  const cases: [string, object, string | RegExp][] = [
    [
      'stargz',
      { ...json, layers: [{ ...layer, annotations: { [TOC]: layer!.digest } }] },
      /lazy format already/,
    ],
    [
      'nydus',
      { ...json, annotations: { 'containerd.io/snapshot/nydus-source-digest': ordinary.digest } },
      /another conversion service/,
    ],
    [
      'signature',
      { ...json, layers: [{ ...layer, mediaType: 'application/vnd.dev.cosign.simplesigning.v1+json' }] },
      /not an image of layers/,
    ],
  ];
  for (const [tag, manifest, reason] of cases) {
    await pushManifest(here.proxy, 'x', manifest, tag);
    await here.webhook('PUSH_ARTIFACT', 'x', tag);
    t.match(await outcomeOf(here, 'all', 'x', tag), { outcome: 'skipped', reason }, tag);
  }
});
