// The regions of a stopped node as snapshot files: a backup, or what a tool reads.

package import UkehiBase
import UkehiEnvironment
import UkehiNode
import UkehiPOSIX
package import UkehiState
import UkehiWAL

/// Exports the state of a node that does not run.
///
/// The state is what the node's store has flushed; what its log holds past that is not in it, and a
/// node that was stopped cleanly has nothing past it. Of state in memory, and of embedders' state machines, it is
/// the last snapshot that was kept.
package struct NodeExport {
    /// Where the snapshots go.
    package enum Target: Sendable, Hashable {
        /// One region's, to this file.
        case file(String)
        /// Each as `region-N.snapshot` in this directory, which is made if need be.
        case directory(String)
    }

    /// One snapshot that was written.
    package struct Exported: Sendable {
        package var header: SnapshotHeader
        package var state: RegionState
        package var footer: SnapshotFooter
        package var path: String
        package var fileBytes: UInt64
        /// The last entry in the node's log, committed or not.
        package var lastIndex: LogIndex
    }

    /// A region as the log tells it.
    private struct Source {
        var birth: RegionBirth
        var lastIndex: LogIndex

        var descriptor: RegionDescriptor { birth.origin }
        /// Without a state it is an empty region only if it began so here.
        var beginsWithState: Bool { birth.parting != nil || birth.introduction != nil }
    }

    private let directory: String
    private let fileSystem = POSIXFileSystem()
    /// Told after each frame: the bytes of records so far, of all regions.
    package var onProgress: (UInt64) -> Void = { _ in }

    package init(directory: String) { self.directory = directory }

    /// Writes the snapshots of every user region, or of one.
    ///
    /// A region whose state is not on this node yet is passed over, and the error at the end names it.
    ///
    /// - Parameter exported: Told of each as soon as it is durable under its name.
    /// - Throws: ``NodeError`` or ``SnapshotError``. Snapshots told of by then are whole.
    package func run(
        region: RegionID?, to target: Target, exported: (Exported) throws -> Void
    ) throws {
        guard fileSystem.exists(directory + "/" + Identity.fileName) else {
            throw SnapshotError(
                .notFound, "Nothing was exported: there is no node in \(directory).")
        }
        let lock = try takeLock()
        defer { lock.release() }
        guard let record = try Identity.load(fileSystem, directory: directory)?.record else {
            throw NodeError(
                code: .identity,
                message: "Nothing was exported: the node in \(directory) is of no cluster yet.")
        }
        let kept = KeptSnapshots(fileSystem, directory: directory + "/snapshots")
        let isOnDisk = fileSystem.exists(directory + "/state")
        guard isOnDisk || !kept.isEmpty else {
            throw NodeError(
                code: .configuration,
                message:
                    "Nothing was exported: the node in \(directory) has no state on disk, neither a "
                    + "store, as storage.state = \"rocksdb\" has, nor a kept snapshot.")
        }
        let sources = try chosen(region, from: try sources(), target)
        let paths = try paths(for: sources, target)
        guard isOnDisk else { return try copy(kept, of: sources, to: paths, exported) }
        let applier = try Configuration(directory: directory).makeApplier(
            stateMachine: nil, isReadOnly: true)
        defer { applier.close() }
        guard let store = applier as? KeyValueApplier else {
            throw NodeError(
                code: .configuration, message: "Nothing was exported: the state holds no keys.")
        }
        let compressing = ThreadWorker(name: "ukehi-compress")
        defer { compressing.stop() }
        var before: UInt64 = 0
        var absent: [RegionID] = []
        for (source, path) in zip(sources, paths) {
            let made = try export(
                source, of: record.cluster, from: store, to: path, before, compressing)
            guard let made else {
                absent.append(source.descriptor.region)
                continue
            }
            before += made.footer.rawBytes
            try exported(made)
        }
        try tell(
            absent,
            "of which nothing is here yet. Start the node, let it catch up, and stop it cleanly; or "
                + "export from another one.")
    }

    /// The state is in memory while the node runs: what it keeps of it, and begins with, are snapshots already.
    private func copy(
        _ kept: KeptSnapshots, of sources: [Source], to paths: [String],
        _ exported: (Exported) throws -> Void
    ) throws {
        var before: UInt64 = 0
        var absent: [RegionID] = []
        for (source, path) in zip(sources, paths) {
            let region = source.descriptor.region
            let made = try kept.copy(region, to: path) { onProgress(before + $0) }
            guard let made else {
                absent.append(region)
                continue
            }
            before += made.footer.rawBytes
            try exported(
                Exported(
                    header: made.header, state: made.state, footer: made.footer, path: path,
                    fileBytes: made.fileBytes, lastIndex: source.lastIndex))
        }
        try tell(
            absent,
            "of which no snapshot is kept yet: their state is in memory, and one is made every "
                + "raft.snapshot_interval entries.")
    }

    private func tell(_ absent: [RegionID], _ reason: String) throws {
        guard !absent.isEmpty else { return }
        throw NodeError(
            code: .unavailable,
            message: "Not exported: \(absent.count == 1 ? "region" : "regions") "
                + absent.map { "\($0.rawValue)" }.joined(separator: ", ") + ", \(reason)")
    }

    // MARK: The node

    private func takeLock() throws -> any FileLock {
        do {
            return try fileSystem.lock(directory + "/lock")
        } catch {
            guard error.kind == .locked else {
                throw NodeError(
                    code: .ioFailed,
                    message: "The data directory \(directory) is unusable: \(error).")
            }
            throw NodeError(
                code: .identity,
                message: "Nothing was exported: the node in \(directory) is running. Stop it, or "
                    + "export from another one.")
        }
    }

    /// The user regions in the log. It is opened as for a start of the node, but changes nothing; an
    /// entry that cannot be read does not matter, since the state needs none.
    private func sources() throws -> [Source] {
        var options = WALOptions()
        options.damagePolicy = .repair
        let log: WriteAheadLog
        let regions: [RecoveredRegion]
        do throws(WALError) {
            (log, regions) = try WriteAheadLog.open(
                fileSystem: ReadOnlyFileSystem(fileSystem), directory: directory + "/wal",
                options: options,
                random: SystemRandomSource(), clock: SystemClock())
        } catch {
            throw NodeError(error)
        }
        log.stop()
        var sources: [Source] = []
        for found in regions {
            guard let bytes = found.birth else { continue }
            guard let birth = try? RegionBirth.decode(bytes) else {
                throw NodeError(
                    code: .corrupted,
                    message: "The birth record of region \(found.region) cannot be read.")
            }
            guard !birth.origin.isSystem else { continue }
            sources.append(Source(birth: birth, lastIndex: found.lastIndex))
        }
        return sources.sorted { $0.descriptor.region < $1.descriptor.region }
    }

    private func chosen(
        _ region: RegionID?, from sources: [Source], _ target: Target
    ) throws -> [Source] {
        let known = sources.map { "\($0.descriptor.region.rawValue)" }.joined(separator: ", ")
        var chosen = sources
        if let region {
            chosen = sources.filter { $0.descriptor.region == region }
            guard !chosen.isEmpty else {
                throw SnapshotError(
                    .notFound,
                    "Nothing was exported: the node has no user region \(region.rawValue). It has "
                        + "\(known).")
            }
        }
        if case .file = target, chosen.count != 1 {
            throw SnapshotError(
                .notFound,
                "Nothing was exported: one file holds one region, and the node has \(known). Name "
                    + "one with --region, or a directory for all with --out-dir.")
        }
        return chosen
    }

    // MARK: The files

    /// A path for each region; none of them is taken.
    private func paths(for sources: [Source], _ target: Target) throws -> [String] {
        switch target {
        case .file(let path): return [path]
        case .directory(let parent):
            do throws(FileError) {
                if !fileSystem.exists(parent) {
                    try fileSystem.createDirectory(parent)
                    try fileSystem.syncDirectory(SnapshotFileWriter.parent(of: parent))
                }
            } catch {
                throw SnapshotError(error, doing: "Nothing was exported")
            }
            let paths = sources.map { "\(parent)/region-\($0.descriptor.region.rawValue).snapshot" }
            for path in paths where fileSystem.exists(path) {
                throw SnapshotError(
                    .exists,
                    "Nothing was exported: \(path) is there already. Remove it, or name another "
                        + "directory.")
            }
            return paths
        }
    }

    /// Nil: the node has a peer of the region, and nothing of its state yet.
    private func export(
        _ source: Source, of cluster: ClusterID, from store: KeyValueApplier, to path: String,
        _ before: UInt64, _ compressing: any Worker
    ) throws -> Exported? {
        var descriptor = source.descriptor
        var writer: SnapshotFileWriter?
        var header: SnapshotHeader?
        var state: RegionState?
        do {
            let applied = try store.open(
                region: descriptor.region, system: false, range: source.birth.firstRange,
                epoch: descriptor.epoch)
            guard applied > .zero || !source.beginsWithState else { return nil }
            try store.writeSnapshot(of: descriptor.region) { found, stored in
                // The log knows the region as it was born, the store as it has become.
                if let stored { descriptor = try RegionDescriptor.decode(stored) }
                // Members are as of an epoch, too: those of another one would be a wrong quorum.
                guard found.epoch == descriptor.epoch else {
                    throw NodeError(
                        code: .corrupted,
                        message: "Region \(descriptor.region): the state is of epoch "
                            + "\(found.epoch), the log of \(descriptor.epoch). Log and state are "
                            + "of different times; restore both from one backup.")
                }
                let made = descriptor.snapshotHeader(cluster: cluster, state: found)
                let file = try SnapshotFileWriter(
                    fileSystem, path: path, made, state: found,
                    options: SnapshotOptions(compressingWorker: compressing))
                file.encoder.onFrame = { onProgress(before + $0) }
                (writer, header, state) = (file, made, found)
                return file.encoder
            }
            guard let writer, let header, let state else {
                throw SnapshotError(.ioFailed, "The snapshot \(path) was not begun.")
            }
            let footer = try writer.finish()
            return Exported(
                header: header, state: state, footer: footer, path: path,
                fileBytes: writer.fileBytes, lastIndex: source.lastIndex)
        } catch {
            writer?.abandon()
            if let error = error as? StateError { throw NodeError(error) }
            if error is DecodeError {
                throw NodeError(
                    code: .corrupted,
                    message: "Region \(descriptor.region): its descriptor in the state store "
                        + "cannot be read.")
            }
            throw error
        }
    }
}

extension RegionDescriptor {
    fileprivate func snapshotHeader(cluster: ClusterID, state: RegionState) -> SnapshotHeader {
        SnapshotHeader(
            snapshot: SystemRandomSource().next(), cluster: cluster, region: region,
            isSystem: isSystem, range: range,
            members: peers.map {
                SnapshotMember(peer: $0.peer, node: $0.node, roles: $0.roles)
            }, leavesJoint: leavesJoint, state: state)
    }
}
