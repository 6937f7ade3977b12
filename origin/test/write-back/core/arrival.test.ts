import { type BlobAttrs, MAX_PROVENANCE } from '@sepia/store/sidecar';
import t from 'tap';
import { arrivalOf, arrived, type Keeper } from '../../../src/write-back/core/arrival.ts';

const KEEPERS: Readonly<Record<string, Keeper>> = {
  ...{ hub: 'registry', other: 'registry', local: 'origins', stored: 'backend', hubs: 'elsewhere' },
};
const KEEPING = { keeperOf: (upstream: string) => KEEPERS[upstream], maxPlaces: MAX_PROVENANCE };

function attrs(brought: readonly string[], change: Partial<BlobAttrs> = {}): BlobAttrs {
  const provenance = brought.map((one) => {
    const [upstream = '', repository = ''] = one.split('/');
    return { upstream, repository };
  });
  return { class: 'pushed', writtenBack: false, provenance, ...change };
}

t.test('every repository that brought a blob must have it at its registry', async (t) => {
  const blob = attrs(['hub/a', 'hubs/x', 'other/b']);
  const places = [blob.provenance[0]!, blob.provenance[2]!];
  t.same(arrivalOf(blob, KEEPING), { type: 'ask', places });
  t.equal(arrived(blob, places.slice(1), KEEPING), blob);
  t.same(arrived(blob, places, KEEPING), { ...blob, class: 'cached', writtenBack: true });
  const pushedAgain = attrs(['hub/a', 'hubs/x', 'other/b', 'hub/c']);
  t.equal(arrived(pushedAgain, places, KEEPING), pushedAgain, 'one came meanwhile');
});

t.test('what origins alone keep stays, and what a backend is to have waits for that', async (t) => {
  for (const brought of [['local/a', 'hub/a'], ['hub/a', 'gone/a'], ['hubs/a'], []])
    t.same(arrivalOf(attrs(brought), KEEPING), { type: 'never' }, brought.join());
  t.same(arrivalOf(attrs(['hub/a'], { class: 'cached' }), KEEPING), { type: 'never' });
  t.same(arrivalOf(attrs(['stored/a', 'hub/a']), KEEPING), { type: 'later' });
  t.match(arrivalOf(attrs(['stored/a', 'hub/a'], { writtenBack: true }), KEEPING), { type: 'ask' });
  const many = Array.from({ length: MAX_PROVENANCE }, (_, at) => `hub/r${at}`);
  t.same(arrivalOf(attrs(many), KEEPING), { type: 'never' }, 'some may be left out');
});
