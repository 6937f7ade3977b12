import { silentLogger } from '@sepia/base/log';
import { layerEntry } from '@sepia/lazy/index/layer-entry';
import { LayerIndexer } from '@sepia/lazy/index/layer-indexer';
import { tarEntries } from '@sepia/lazy/tar/tar-reader';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { writeTar } from '../../../shared/lazy/test/support/tar-writer.ts';
import type { LazyLayer } from '../../src/layers/lazy-layer.ts';
import { answerFrom } from '../../src/layers/made-image.ts';
import { StartReads } from '../../src/offers/start-reads.ts';

const TAR = writeTar([
  { name: 'bin/tool', payload: Buffer.alloc(2_000, '#') },
  { name: 'etc/listed', payload: Buffer.alloc(2_000, 'x') },
]);
const ENTRIES = tarEntries(TAR).map(layerEntry);
const INDEX = ((): Buffer => {
  const indexer = new LayerIndexer();
  indexer.push(TAR);
  return indexer.end().bytes;
})();

/** A layer with a span a KiB of which nothing is there. */
function layerOf(broken = false, entryCount = 2): LazyLayer {
  const spans = Array.from({ length: TAR.length / 1024 }, (_none, index) => ({ offset: index * 1024 }));
  return {
    index: { spans },
    entryCount,
    tree: async () => answerFrom(INDEX, { type: 'tree' }),
    places: async (paths: readonly string[]) => answerFrom(INDEX, { type: 'places', paths }),
    hasOrFetches: () => false,
    readContent: async (offset: number, length: number) => {
      if (broken) throw new Error('nobody has it');
      return TAR.subarray(offset, offset + length);
    },
  } as unknown as LazyLayer;
}

const OFFER = { repository: 'team/app' } as Parameters<StartReads['expect']>[0];
const COMMAND = { words: ['tool'], path: '/bin', loaderPath: '', folder: '/' };
const spanAt = (name: string): number => Math.floor(ENTRIES.find(({ path }) => path === name)!.offset / 1024);

t.test(
  'recorded files come first, then those of the list; an image without any is looked into',
  async (t) => {
    for (const [paths, more, first] of [
      [['/etc/listed', 'not/there'], {}, 'etc/listed'],
      [['not/there'], {}, 'bin/tool'],
      [['bin/tool'], { readFirst: ['not/there', '/etc/listed'] }, 'etc/listed'],
      [[], { readFirst: ['not/there'] }, 'bin/tool'],
    ] satisfies [string[], object, string][]) {
      const starts = new StartReads({ log: silentLogger() }, { paths });
      const layer = layerOf();
      const told = starts.added(new AbortController().signal);
      starts.expect({ ...OFFER, ...more, command: COMMAND }, [layer]);
      await told;
      await until(() => !starts.spans.isEmpty, 'spans');
      const next = starts.spans.take(9, () => true);
      t.equal(next?.run.first, spanAt(first), first);
    }
  },
);

t.test('no command, or a layer that cannot be read: nothing comes of it', async (t) => {
  const starts = new StartReads({ log: silentLogger() }, { paths: [] });
  starts.expect(OFFER, [layerOf()]);
  starts.expect({ ...OFFER, command: COMMAND }, [layerOf(false, 60_000), layerOf(false, 60_000)]);
  await new Promise((settle) => setTimeout(settle, 100));
  t.ok(starts.spans.isEmpty, 'nor of too many files');
  starts.expect({ ...OFFER, command: COMMAND }, [layerOf(true)]);
  await until(() => !starts.spans.isEmpty, 'what is known before it is read');
  t.equal(starts.spans.take(1, () => true)?.run.first, spanAt('bin/tool'));
});
