// Snapshot files of a whole node as the data directory of a new one: a backup that comes back.
//
//   headers  ──▶ one cluster, ranges without overlap or gap ──▶ a new cluster record
//   the log      births, and resets behind the snapshots' indexes
//   the state    each snapshot installed; where it is in memory, kept as a snapshot of the new cluster
//   identity     last: without it the directory is nobody's, and no node starts from it
//
// The new node is a cluster of its own, under a new cluster id and incarnation: nodes of the old one would
// refuse it, and it them. It keeps regions, their ids, epochs, indexes and terms.

package import UkehiBase
import UkehiEnvironment
import UkehiNode
import UkehiPOSIX
package import UkehiState
import UkehiWAL

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Makes a data directory from the snapshots of a backup. Nothing is left behind if it fails.
package struct NodeImport {
    /// One region that was restored.
    package struct Imported: Sendable {
        package var header: SnapshotHeader
        package var state: RegionState
        package var path: String
        package var keys: UInt64
        package var rawBytes: UInt64
    }

    /// A snapshot of the backup.
    private struct Source {
        var header: SnapshotHeader
        var path: String
        var fileBytes: UInt64
    }

    private let backup: String
    private let configuration: Configuration
    private var directory: String { configuration.cluster.dataDirectory }
    private let fileSystem = POSIXFileSystem()
    /// Told after each frame: bytes of the files that were read, and of all of them.
    package var onProgress: (_ done: UInt64, _ total: UInt64) -> Void = { _, _ in }
    /// Asked after each frame: whether to give up.
    package var isCancelled: () -> Bool = { false }

    /// Whether keys that no snapshot has become regions with nothing in them; otherwise they are an error.
    package var fillsMissing = false

    /// - Parameters:
    ///   - backup: A directory in which each `.snapshot` is one region of the same cluster.
    ///   - configuration: Of the node that the directory is for; its `cluster.data_dir` is made.
    package init(backup: String, configuration: Configuration) {
        self.backup = backup
        self.configuration = configuration
    }

    /// Restores all of the backup.
    ///
    /// - Parameter imported: Told of each region once it is in the new directory.
    /// - Returns: The new cluster, and how many of its regions begin with nothing in them.
    /// - Throws: ``ConfigurationError``, ``NodeError`` or ``SnapshotError``; then no directory was made.
    package func run(
        imported: (Imported) throws -> Void
    ) throws -> (cluster: ClusterID, empty: Int) {
        try configuration.validate()
        guard configuration.cluster.peers.isEmpty else {
            throw NodeError(
                code: .configuration,
                message: "Nothing was imported: a backup becomes a cluster of one node. Leave "
                    + "cluster.peers out.")
        }
        guard configuration.storage.state != .none else {
            throw NodeError(
                code: .configuration,
                message: "Nothing was imported: with storage.state = \"none\" nothing is kept.")
        }
        let sources = try sources()
        let missing = try check(sources)
        let isNew = try claim()
        var isDone = false
        defer { if !isDone { clear(isNew: isNew) } }
        let lock = try fileSystem.lock(directory + "/lock")
        defer { lock.release() }
        let identity = newIdentity(for: sources, filling: missing)
        guard let record = identity.record else { return (ClusterID(high: 0, low: 0), 0) }
        do {
            try writeLog(record, sources)
            try install(record, sources, imported)
            try identity.store(fileSystem, directory: directory)
        } catch let error as StateError {
            throw NodeError(error)
        } catch let error as WALError {
            throw NodeError(error)
        }
        isDone = true
        return (record.cluster, missing.count)
    }

    // MARK: The backup

    private func sources() throws -> [Source] {
        let names: [String]
        do throws(FileError) {
            names = try fileSystem.list(backup).filter { $0.hasSuffix(".snapshot") }.sorted()
        } catch {
            throw SnapshotError(error, doing: "Nothing was imported")
        }
        guard !names.isEmpty else {
            throw SnapshotError(
                .notFound,
                "Nothing was imported: \(backup) holds no .snapshot files. Name the directory that "
                    + "`ukehi snapshot export --out-dir` wrote.")
        }
        return try names.map { name in
            let path = "\(backup)/\(name)"
            return try withReader(path) { reader in
                Source(header: reader.header, path: path, fileBytes: reader.fileBytes)
            }
        }
    }

    /// Runs `body` with a reader of the file; errors name it.
    private func withReader<R>(
        _ path: String, _ body: (SnapshotFileReader) throws -> R
    ) throws -> R {
        let file: any File
        do throws(FileError) {
            file = try fileSystem.open(path, .read)
        } catch {
            throw SnapshotError(error, doing: "\(path) was not opened")
        }
        defer { file.close() }
        do {
            return try body(SnapshotFileReader(file))
        } catch var error as SnapshotError {
            error.message = "\(path): \(error.message)"
            throw error
        }
    }

    /// Together they must be keys of one cluster, each once, and all of them unless what is missing is to be
    /// filled. What is missing, ascending.
    private func check(_ sources: [Source]) throws(SnapshotError) -> [KeyRange] {
        func refuse(_ reason: String) -> SnapshotError {
            SnapshotError(.unfit, "Nothing was imported: \(reason)")
        }
        let sorted = sources.sorted { $0.header.range.lower < $1.header.range.lower }
        guard let first = sorted.first, let top = sorted.last else { return [] }
        for source in sorted {
            guard source.header.cluster == first.header.cluster else {
                throw refuse(
                    "\(first.path) is of cluster \(first.header.cluster), \(source.path) of "
                        + "\(source.header.cluster). Put one cluster's snapshots in a directory.")
            }
            guard source.header.content == .keyValue else {
                throw refuse(
                    "\(source.path) is of a state machine of one's own, which only its program can "
                        + "read. Take the file away.")
            }
            guard !source.header.isSystem else {
                throw refuse(
                    "\(source.path) is of the system region, which a new cluster makes itself. Take "
                        + "the file away.")
            }
        }
        for (left, right) in zip(sorted, sorted.dropFirst()) {
            guard left.header.region != right.header.region else {
                throw refuse(
                    "\(left.path) and \(right.path) are of one region. Keep one of them.")
            }
            if left.header.range.overlaps(right.header.range) {
                throw refuse(
                    "the ranges of \(left.path) and \(right.path) overlap. Use the snapshots of one "
                        + "export.")
            }
            guard fillsMissing || left.header.range.upper == right.header.range.lower else {
                throw refuse(
                    "a snapshot is missing: no file has the keys between \(left.path) and "
                        + "\(right.path). Export all regions; with --fill-missing they begin empty."
                )
            }
        }
        let isWhole = first.header.range.lower.isEmpty && top.header.range.upper.isEmpty
        guard fillsMissing || isWhole else {
            let place =
                first.header.range.lower.isEmpty ? "above \(top.path)" : "below \(first.path)"
            throw refuse(
                "a snapshot is missing: no file has the keys \(place). Export all regions; with "
                    + "--fill-missing they begin empty.")
        }
        guard Set(sources.map(\.header.region)).count == sources.count else {
            throw refuse("two snapshots are of one region. Keep one of them.")
        }
        let missing = KeyRange.all.subtracting(sources.map(\.header.range))
        let last = sources.map(\.header.region.rawValue).max() ?? 0
        guard last < RegionDescriptor.numberLimit - UInt64(2 * (sources.count + missing.count) + 2)
        else { throw refuse("region \(last) leaves no ids for what is to come.") }
        return missing
    }

    // MARK: The directory

    /// Takes an empty directory, or makes it; whether it was made.
    private func claim() throws -> Bool {
        let isNew = !fileSystem.exists(directory)
        let isEmpty: Bool
        do throws(FileError) {
            if isNew { try fileSystem.createDirectory(directory) }
            isEmpty = try fileSystem.list(directory).isEmpty
            try fileSystem.syncDirectory(SnapshotFileWriter.parent(of: directory))
        } catch {
            if isNew { rmdir(directory) }
            throw SnapshotError(error, doing: "Nothing was imported")
        }
        guard isEmpty else {
            throw SnapshotError(
                .exists,
                "Nothing was imported: \(directory) is not empty. Name a new directory, or empty "
                    + "this one.")
        }
        return isNew
    }

    /// Takes away what was made.
    private func clear(isNew: Bool) {
        Self.removeContents(of: directory)
        if isNew { rmdir(directory) }
    }

    private static func removeContents(of directory: String) {
        guard let names = try? POSIXFileSystem().list(directory) else { return }
        for path in names.map({ "\(directory)/\($0)" }) {
            // A link is removed, never followed: unlink fails on directories alone.
            guard unlink(path) != 0 else { continue }
            removeContents(of: path)
            rmdir(path)
        }
    }

    private func newIdentity(for sources: [Source], filling missing: [KeyRange]) -> Identity {
        let random = SystemRandomSource()
        let name = configuration.cluster.nodeID
        let advertised = configuration.cluster.advertise
        let incarnation = Incarnation(random.next() | 1)
        let node = NodeRecord(
            node: NodeID(1), name: name,
            address: advertised.isEmpty ? configuration.cluster.listen : advertised,
            incarnation: incarnation)
        var identity = Identity.fresh(name: name, incarnation: incarnation)
        identity.stage = .member
        identity.node = node.node
        let headers = sources.map(\.header).sorted { $0.region < $1.region }
        let nextID = (headers.last?.region ?? .system).rawValue + 1
        let version = headers.map(\.epoch.version).max() ?? 1
        let empty = missing.enumerated().map { position, range in
            (
                region: RegionID(nextID + UInt64(position)), range: range,
                epoch: RegionEpoch(confVersion: 1, version: version)
            )
        }
        identity.record = ClusterRecord.restored(
            cluster: ClusterID(high: random.next(), low: random.next()), node: node,
            regions: headers.map { (region: $0.region, range: $0.range, epoch: $0.epoch) } + empty)
        return identity
    }

    /// Births of all regions; the log of each begins behind its snapshot.
    private func writeLog(_ record: ClusterRecord, _ sources: [Source]) throws {
        var options = WALOptions()
        options.segmentBytes = configuration.wal.segmentMegabytes << 20
        let (log, _) = try WriteAheadLog.open(
            fileSystem: fileSystem, directory: directory + "/wal", options: options,
            random: SystemRandomSource(), clock: SystemClock())
        log.start(durable: { _, _ in }, failed: { _ in })
        defer { log.stop() }
        var batch = log.newBatch()
        for descriptor in record.regions {
            batch.birth(
                region: descriptor.region, payload: descriptor.encoded(), hardState: .empty)
        }
        for header in sources.map(\.header) where header.index > .zero {
            batch.reset(
                region: header.region, index: header.index, term: header.term,
                hardState: HardState(term: header.term, commit: header.index))
        }
        let ticket = try log.submit(&batch, lane: 0)
        guard log.waitUntilDurable(ticket) else {
            throw NodeError(
                code: .ioFailed,
                message: "Nothing was imported: the log could not be written. Check the disk of "
                    + "\(directory).")
        }
    }

    private func install(
        _ record: ClusterRecord, _ sources: [Source], _ imported: (Imported) throws -> Void
    ) throws {
        let applier = try configuration.makeApplier(stateMachine: nil)
        defer { applier.close() }
        let compressing = ThreadWorker(name: "ukehi-compress")
        defer { compressing.stop() }
        let kept = SnapshotFiles(fileSystem, directory: directory + "/snapshots")
        if !applier.survivesRestart {
            try fileSystem.createDirectory(kept.directory)
            try fileSystem.syncDirectory(directory)
        }
        let total = sources.reduce(0) { $0 + $1.fileBytes }
        var before: UInt64 = 0
        for source in sources.sorted(by: { $0.header.region < $1.header.region }) {
            let header = source.header
            _ = try applier.open(
                region: header.region, system: false, range: header.range, epoch: header.epoch)
            let made = try withReader(source.path) { reader in
                guard reader.header == header else {
                    throw SnapshotError(.unfit, "The file was replaced meanwhile.")
                }
                reader.onFrame = { [onProgress, isCancelled] offset throws(SnapshotError) in
                    onProgress(before + offset, total)
                    if isCancelled() {
                        throw SnapshotError(.cancelled, "The import was interrupted.")
                    }
                }
                // Its members are those of the new cluster.
                guard let region = record.regions.first(where: { $0.region == header.region })
                else { throw SnapshotError(.unfit, "The new cluster lacks a region.") }
                let state = try applier.install(
                    reader, region: header.region, descriptor: region.encoded())
                if !applier.survivesRestart, header.index > .zero {
                    _ = try kept.writeKept(
                        region, of: record.cluster, id: SystemRandomSource().next() | 1,
                        from: applier, options: SnapshotOptions(compressingWorker: compressing))
                }
                return Imported(
                    header: header, state: state, path: source.path,
                    keys: reader.totals.keys(besides: state), rawBytes: reader.totals.rawBytes)
            }
            before += source.fileBytes
            try imported(made)
        }
    }
}
