// What only RocksDB has: views that stay behind writes, cache-only reads, files that are refused.

#if canImport(UkehiRocksDB)

    import Foundation
    import Testing
    import UkehiBase
    import UkehiRocksDB
    import UkehiState

    @Suite("RocksDB")
    struct RocksDBStoreTests {
        private func write(_ store: RocksDBStore, _ pairs: [(Bytes, Bytes)], version: UInt64) throws
        {
            let batch = store.makeBatch()
            batch.begin()
            for (key, value) in pairs { StoreTests.put(batch, key, value, version: version) }
            try batch.commit()
        }

        @Test("a view stays as it was while writes go on")
        func view() throws {
            let directory = try TemporaryDirectory()
            let store = try RocksDBStore(directory: directory.path, options: StoreKind.small)
            try write(store, [("a", "1"), ("b", "1")], version: 1)
            let view = try store.openView(tier: .any)
            try write(store, [("a", "2"), ("c", "2")], version: 2)
            var seen: [Bytes] = []
            try view.scan(.user, from: "", to: "") {
                seen.append(Bytes(copying: $0.value))
                return true
            }
            #expect(seen == ["1", "1"])
            view.close()
            store.close()
        }

        @Test("a store that is only read answers, takes no batch, and is never made")
        func readOnly() throws {
            let directory = try TemporaryDirectory()
            let first = try RocksDBStore(directory: directory.path, options: StoreKind.small)
            try write(first, [("a", "1"), ("b", "2")], version: 1)
            first.close()
            let store = try RocksDBStore(
                directory: directory.path, options: StoreKind.small, isReadOnly: true)
            #expect(try get(store, "b", .any)?.value == "2")
            let view = try store.openView(tier: .any)
            var seen: [Bytes] = []
            try view.scan(.user, from: "", to: "") {
                seen.append(Bytes(copying: $0.key))
                return true
            }
            view.close()
            #expect(seen == ["a", "b"])
            #expect(throws: StateError.self) { try write(store, [("c", "3")], version: 2) }
            store.close()

            let nowhere = directory.path + "/nowhere"
            #expect(throws: StateError.self) {
                _ = try RocksDBStore(directory: nowhere, isReadOnly: true)
            }
            #expect(!FileManager.default.fileExists(atPath: nowhere + "/CURRENT"))
        }

        @Test("a cache-only read of what is on disk alone would block, then does not")
        func cacheOnly() throws {
            let directory = try TemporaryDirectory()
            let first = try RocksDBStore(directory: directory.path, options: StoreKind.small)
            try write(first, (0..<2000).map { (Bytes("key\($0)"), "v") }, version: 1)
            #expect(try get(first, "key77", .cacheOnly)?.value == "v")  // In the memtable.
            first.close()
            let store = try RocksDBStore(directory: directory.path, options: StoreKind.small)
            do {
                _ = try get(store, "key77", .cacheOnly)
                Issue.record("a block was read from disk")
            } catch let error as StateError {
                #expect(error.code == .wouldBlock)
            }
            let applier = KeyValueApplier(store: store)
            _ = try applier.open(region: RegionID(2), system: false, range: .all, epoch: epoch1)
            guard
                case .wouldBlock = applier.read(
                    region: RegionID(2), .get("key77"), tier: .cacheOnly)
            else {
                Issue.record("the applier did not pass it on")
                return
            }
            guard
                case .wouldBlock = applier.read(
                    region: RegionID(2), .scan(lower: "key5", upper: "", limit: 9), tier: .cacheOnly
                )
            else {
                Issue.record("a scan did not say that it would block")
                return
            }
            #expect(try get(store, "key77", .any)?.value == "v")
            #expect(try get(store, "key77", .cacheOnly)?.value == "v")
            store.close()
        }

        private func get(_ store: RocksDBStore, _ key: Bytes, _ tier: ReadTier) throws
            -> StoredValue?
        {
            try key.withUnsafeBytes { key throws(StateError) in
                try store.get(.user, key, tier: tier)
            }
        }

        @Test("a second opening of a directory is refused")
        func locked() throws {
            let directory = try TemporaryDirectory()
            let store = try RocksDBStore(directory: directory.path, options: StoreKind.small)
            do {
                _ = try RocksDBStore(directory: directory.path, options: StoreKind.small)
                Issue.record("opened twice")
            } catch let error {
                #expect(error.code == .locked)
            }
            store.close()
        }

        @Test("damaged files are found, and the message quotes no key")
        func damaged() throws {
            let directory = try TemporaryDirectory()
            let store = try RocksDBStore(directory: directory.path, options: StoreKind.small)
            try write(store, (0..<3000).map { (Bytes("secretkey\($0)"), "v") }, version: 1)
            store.close()
            let files = try FileManager.default.contentsOfDirectory(atPath: directory.path)
            for name in files where name.hasSuffix(".sst") {
                let path = directory.path + "/" + name
                var data = try Data(contentsOf: URL(filePath: path))
                for at in stride(from: 100, to: data.count / 2, by: 200) { data[at] ^= 0x5a }
                try data.write(to: URL(filePath: path))
            }
            do {
                let store = try RocksDBStore(directory: directory.path, options: StoreKind.small)
                defer { store.close() }
                _ = try StoreTests.scan(store)
                Issue.record("damage was not found")
            } catch let error as StateError {
                #expect(error.code == .corrupted)
                #expect(!error.message.contains("secret"))
            }
        }

        @Test("a failed disk is fatal and says what to do")
        func messages() {
            for (text, code) in [
                (
                    "IO error: No space left on device: While appending to file",
                    StateError.Code.diskFull
                ),
                ("IO error: While fsync: Input/output error", .ioFailed),
                ("Corruption: block checksum mismatch: stored = 1", .corrupted),
                ("Result incomplete: Write stall", .stalled),
                ("Result incomplete: ", .wouldBlock),
                ("IO error: lock hold by current process, acquire time 1", .locked),
            ] {
                #expect(StateError(rocksDB: text, effect: "Nothing.").code == code)
            }
        }
    }

#endif
