export { type Fault, type Result, type SimulateOptions, simulate } from './simulate.ts';
