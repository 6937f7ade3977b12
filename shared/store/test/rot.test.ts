import t from 'tap';
import { inMemory, onDisk } from './grounds.ts';
import { rotContract } from './rot-contract.ts';

t.test('on disk', async (t) => rotContract(t, onDisk));
t.test('on the crash file system', async (t) => rotContract(t, inMemory));
