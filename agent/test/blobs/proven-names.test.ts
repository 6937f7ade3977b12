import { digestOf } from '@sepia/base/digest';
import type { BlobName } from '@sepia/base/names/blob-name';
import { parseRepositoryName } from '@sepia/base/names/repository';
import t from 'tap';
import { ProvenNames } from '../../src/blobs/proven-names.ts';

function named(upstream: string): BlobName {
  return { upstream, repository: parseRepositoryName('team/app'), digest: digestOf(Buffer.from('a blob')) };
}

t.test('a name that is proven when its blob has come counts for no later coming', async (t) => {
  const names = new ProvenNames();
  names.add(named('one'));
  const inTime = names.proving(named('two'));
  const late = names.proving(named('three'));
  inTime();
  t.ok(names.has(named('two')));
  names.forget(named('one').digest);
  names.add(named('one'));
  late();
  t.notOk(names.has(named('three')));
  t.notOk(names.hasUpstream(named('three')));
  names.forget(named('one').digest);
  names.proving(named('four'))();
  t.notOk(names.has(named('four')), 'and none for what nobody brings');
});
