// RocksDB under the suite that all stores share (Stores/, one folder for both test targets).

import UkehiState

extension StoreKind {
    static let memory = StoreKind(
        name: "memory", make: { _ in StoreBox(MemoryStore()) }, isDurable: false)
}

#if canImport(UkehiRocksDB)

    import Foundation
    import UkehiRocksDB

    extension StoreKind {
        static let all: [StoreKind] = [rocksDB, memory]

        static let rocksDB = StoreKind(
            name: "RocksDB", make: { _ in try RocksDBBox() }, isDurable: true)

        static let small = RocksDBOptions(
            blockCacheBytes: 8 << 20, memtableBytes: 1 << 20, backgroundJobs: 1)
    }

    /// A store in a directory of its own.
    final class RocksDBBox: StoreBox {
        private(set) var directory: TemporaryDirectory
        private(set) var rocksDB: RocksDBStore

        init() throws {
            directory = try TemporaryDirectory()
            rocksDB = try RocksDBStore(directory: directory.path, options: StoreKind.small)
            super.init(rocksDB)
        }

        /// What the files hold now is all that a crash leaves: a copy of them is opened. The process
        /// that goes on beside it writes nothing more.
        override func crash() throws {
            waitUntilIdle()
            let copy = try TemporaryDirectory(copyOf: directory)
            rocksDB.close()
            directory = copy
            rocksDB = try RocksDBStore(directory: copy.path, options: StoreKind.small)
            store = rocksDB
        }

        override func flush() throws { try rocksDB.flush() }

        /// Files that come and go during a copy would make it a state that never was.
        private func waitUntilIdle() {
            let activities = [
                "rocksdb.mem-table-flush-pending", "rocksdb.num-running-flushes",
                "rocksdb.compaction-pending", "rocksdb.num-running-compactions",
            ]
            while activities.contains(where: { rocksDB.property($0) != "0" }) { sched_yield() }
        }
    }

    /// A directory that goes with its owner.
    final class TemporaryDirectory {
        let path: String

        init() throws {
            path =
                FileManager.default.temporaryDirectory.appending(
                    path: "ukehi-rocksdb-\(UUID().uuidString)"
                ).path
            try FileManager.default.createDirectory(
                atPath: path, withIntermediateDirectories: true)
        }

        init(copyOf other: TemporaryDirectory) throws {
            path =
                FileManager.default.temporaryDirectory.appending(
                    path: "ukehi-rocksdb-\(UUID().uuidString)"
                ).path
            try FileManager.default.copyItem(atPath: other.path, toPath: path)
        }

        deinit { try? FileManager.default.removeItem(atPath: path) }
    }

#else

    extension StoreKind {
        static let all: [StoreKind] = [memory]
    }

#endif
