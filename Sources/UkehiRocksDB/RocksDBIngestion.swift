// A region's content brought into RocksDB as files of its own.
//
// Each file is about as large as those that compactions make.
//
//   file 0     | delete lower..<k | pairs below k |
//   file 1     | delete k..<m     | pairs from k on |
//   ...
//   one file   | delete all sessions of the region | those it has now |
//   last file  | the region's state, its descriptor |
//
// All of them enter the database in one step: one edit of its manifest makes all of it true, the range
// deletions of what was there included (DESIGN.md section 6). A range deletion and the pairs of one file
// get one sequence number, so that it hides what is older and not those.

import CRocksDB
import Synchronization
package import UkehiBase
package import UkehiState

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

extension RocksDBStore {
    /// Where files wait that are to enter the database: on its volume, so that they need not be copied.
    static func ingestionDirectory(_ directory: String) -> String { directory + "/incoming" }

    /// Removes what an ingestion that did not end left behind.
    static func removeLeftovers(of directory: String) {
        let incoming = ingestionDirectory(directory)
        guard let listing = opendir(incoming) else { return }
        defer { closedir(listing) }
        while let entry = readdir(listing) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { raw in
                String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name.hasSuffix(".sst") { unlink(incoming + "/" + name) }
        }
    }

    package func makeIngestion(
        of region: RegionID, _ space: StoreSpace, _ range: KeyRange
    ) throws(StateError) -> any StateIngestion {
        try RocksDBIngestion(self, region, space, range)
    }
}

/// Writes the files of one ingestion.
final class RocksDBIngestion: StateIngestion {
    private static let effect = "A snapshot was not installed."
    private static let numbers = Atomic<UInt64>(0)

    private let store: RocksDBStore
    private let region: RegionID
    private let space: StoreSpace
    private let upper: Bytes
    private let base: String
    private let environment: OpaquePointer?
    private let options: OpaquePointer?
    private var writer: OpaquePointer?
    private var paths: [String] = []
    /// Where the file in hand begins.
    private var lower: Bytes
    private var bytesInFile = 0
    /// Of the region as it will be: they come first, and have a file behind those of the pairs.
    private var sessions: [(session: UInt64, value: Bytes)] = []
    /// Whether the region as it is has sessions.
    private let replacesSessions: Bool
    private var keyScratch = Scratch()
    private var endScratch = Scratch()
    private var valueScratch = Scratch()

    init(
        _ store: RocksDBStore, _ region: RegionID, _ space: StoreSpace, _ range: KeyRange
    ) throws(StateError) {
        self.store = store
        self.region = region
        self.space = space
        lower = range.lower
        upper = range.upper
        replacesSessions =
            try store.regionState(region).map { stored throws(StateError) in
                try RegionState.decode(stored, region: region).hasSessions
            } ?? false
        let directory = RocksDBStore.ingestionDirectory(store.directory)
        if mkdir(directory, 0o755) != 0, errno != EEXIST {
            throw StateError(
                .ioFailed, "\(Self.effect) \(directory) cannot be made: errno \(errno).")
        }
        let number = Self.numbers.add(1, ordering: .relaxed).newValue
        base = "\(directory)/\(region.rawValue)-\(number)"
        environment = rocksdb_envoptions_create()
        options = store.options.make()
        try openFile()
    }

    deinit {
        if let writer { rocksdb_sstfilewriter_destroy(writer) }
        rocksdb_envoptions_destroy(environment)
        rocksdb_options_destroy(options)
        for path in paths { unlink(path) }
    }

    private func openFile() throws(StateError) {
        let path = "\(base)-\(paths.count).sst"
        let made = rocksdb_sstfilewriter_create(environment, options)
        writer = made
        paths.append(path)
        try checked(Self.effect) { rocksdb_sstfilewriter_open(made, path, $0) }
    }

    private func finishFile() throws(StateError) {
        guard let writer else { return }
        try checked(Self.effect) { rocksdb_sstfilewriter_finish(writer, $0) }
        rocksdb_sstfilewriter_destroy(writer)
        self.writer = nil
        bytesInFile = 0
    }

    /// Ends the file in hand, with the deletion of all that it stands for.
    private func finishFile(before end: UnsafeRawBufferPointer) throws(StateError) {
        try finishFile(space, lower, before: end)
    }

    private func finishFile(
        _ space: StoreSpace, _ lower: Bytes, before end: UnsafeRawBufferPointer
    ) throws(StateError) {
        try lower.withUnsafeBytes { lower throws(StateError) in
            let from = keyScratch.key(space, lower)
            let to = endScratch.end(space, end)
            try checked(Self.effect) {
                rocksdb_sstfilewriter_delete_range(
                    writer, from.characters, from.count, to.characters, to.count, $0)
            }
        }
        try finishFile()
    }

    func put(
        _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, version: UInt64,
        expiresAt: UInt64
    ) throws(StateError) {
        if bytesInFile >= store.options.memtableBytes {
            try finishFile(before: key)
            lower = Bytes(copying: key)
            try openFile()
        }
        try put(space, key, value, version: version, expiresAt: expiresAt)
    }

    private func put(
        _ space: StoreSpace, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer,
        version: UInt64, expiresAt: UInt64
    ) throws(StateError) {
        let prefixed = keyScratch.key(space, key)
        let stored = valueScratch.value(value, version: version, expiresAt: expiresAt)
        try checked(Self.effect) {
            rocksdb_sstfilewriter_put(
                writer, prefixed.characters, prefixed.count, stored.characters, stored.count, $0)
        }
        bytesInFile += prefixed.count + stored.count
    }

    func putSession(_ session: UInt64, _ value: UnsafeRawBufferPointer) {
        sessions.append((session, Bytes(copying: value)))
    }

    private func writeSessions() throws(StateError) {
        guard replacesSessions || !sessions.isEmpty else { return }
        try openFile()
        for (session, value) in sessions {
            try SessionKey.with(region, session) { key in
                value.withUnsafeBytes { value in
                    Result { () throws(StateError) in
                        try put(.sessions, key, value, version: 0, expiresAt: 0)
                    }
                }
            }.get()
        }
        let range = SessionKey.range(of: region)
        try range.upper.withUnsafeBytes { upper throws(StateError) in
            try finishFile(.sessions, range.lower, before: upper)
        }
    }

    func finish(_ state: RegionState, descriptor: Bytes) throws(StateError) {
        try upper.withUnsafeBytes { upper throws(StateError) in try finishFile(before: upper) }
        try writeSessions()
        try openFile()
        try StoreLayout.regionKey(region) { key in
            Result { () throws(StateError) in try put(key, state.encoded()) }
        }.get()
        try StoreLayout.regionKey(region, part: StoreLayout.descriptorPart) { key in
            Result { () throws(StateError) in try put(key, descriptor) }
        }.get()
        try finishFile()
        try ingest()
    }

    private func put(_ key: UnsafeRawBufferPointer, _ value: Bytes) throws(StateError) {
        try value.withUnsafeBytes { value throws(StateError) in
            try checked(Self.effect) {
                rocksdb_sstfilewriter_put(
                    writer, key.characters, key.count, value.characters, value.count, $0)
            }
        }
    }

    private func ingest() throws(StateError) {
        let options = rocksdb_ingestexternalfileoptions_create()
        defer { rocksdb_ingestexternalfileoptions_destroy(options) }
        rocksdb_ingestexternalfileoptions_set_move_files(options, 1)
        var names = paths.map { UnsafePointer(strdup($0)) }
        defer { for name in names { free(UnsafeMutablePointer(mutating: name)) } }
        let count = names.count
        try names.withUnsafeMutableBufferPointer { names throws(StateError) in
            try checked(Self.effect) {
                rocksdb_ingest_external_file(
                    store.database, names.baseAddress, count, options, $0)
            }
        }
    }

    func abandon() {
        if let writer { rocksdb_sstfilewriter_destroy(writer) }
        writer = nil
        for path in paths { unlink(path) }
        paths = []
    }
}
