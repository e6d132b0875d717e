// RocksDB with the process killed: what is left is a prefix of what was applied.

#if canImport(UkehiRocksDB)

    import Testing
    import UkehiBase
    import UkehiRocksDB
    import UkehiState

    #if canImport(Glibc)
        import Glibc
    #elseif canImport(Musl)
        import Musl
    #endif

    @Suite("RocksDB with the process killed")
    struct KillTests {
        @Test(
            "after SIGKILL, applied index and data agree, and what was flushed is there",
            arguments: [UInt64(1), 2, 3])
        func kill(_ seed: UInt64) async throws {
            let directory = try TemporaryDirectory()
            let path = directory.path
            await #expect(processExitsWith: .signal(SIGKILL)) {
                [path = path as String, seed = seed as UInt64] in
                let store = try RocksDBStore(directory: path, options: StoreKind.small)
                let applier = KeyValueApplier(store: store)
                let (region, range) = Machine.ranges[0]
                _ = try applier.open(region: region, system: false, range: range, epoch: epoch1)
                let history = try History(0, seed: seed, entries: 200)
                for entry in history.entries {
                    var batch = ApplyBatch()
                    batch.append(region: region, entries: [entry], wantsResults: false)
                    try applier.apply(&batch)
                    if entry.index == LogIndex(50 * seed) { try store.flush() }
                }
                raise(SIGKILL)
            }
            let store = try RocksDBStore(directory: path, options: StoreKind.small)
            let applier = KeyValueApplier(store: store)
            let (region, range) = Machine.ranges[0]
            let applied = try applier.open(
                region: region, system: false, range: range, epoch: epoch1)
            #expect(applied >= LogIndex(50 * seed))
            #expect(applier.flushedAppliedIndex(region: region) == applied)
            let twin = try History(0, seed: seed, entries: 200).states[Int(applied.rawValue)]
            guard
                case .scan(let page) = applier.read(
                    region: region, .scan(lower: "", upper: "", limit: 1000), tier: .any)
            else {
                Issue.record("the store cannot be scanned")
                return
            }
            #expect(page.pairs == twin.sorted)
            applier.close()
        }
    }

#endif
