import t from 'tap';
import { blobStoreContract } from './contract.ts';
import { inMemory, onDisk } from './grounds.ts';

t.test('on disk', async (t) => blobStoreContract(t, onDisk));
t.test('on the crash file system', async (t) => blobStoreContract(t, inMemory));
