// Snapshots in place of a store: of state that is in memory only, so that its log can be compacted and a
// restart replays no more than what came since (decision 0017).
//
//   kept-REGION-INDEX    the region's state after the entry at INDEX, whole and durable
//
// The one before goes when the next is there. What is kept takes the place of what a store has flushed:
// the log is compacted behind it (RULES 40).

import Logging
package import UkehiBase
import UkehiEnvironment
package import UkehiState

/// Keeps snapshots of a node's regions. Any thread; one snapshot of a region is made at a time.
package final class SnapshotKeeper: @unchecked Sendable {
    // Safety: what changes is behind `lock`.
    private struct Kept {
        /// Zero: none.
        var index = LogIndex.zero
        /// Before compression; zero until one was made by this process.
        var rawBytes: UInt64 = 0
        var isMaking = false
    }
    private let files: SnapshotFiles
    private let applier: Applier
    private let worker: any Worker
    private let compressingWorker: (any Worker)?
    private let random: any RandomSource
    private let logger: Logger
    private let lock = Lock()
    /// Held while a file gets its name. No lane takes it.
    private let naming = Lock()
    private var regions: [RegionID: Kept] = [:]
    /// How often what was kept of a region was forgotten: what was begun before is not kept after.
    private var forgotten: [RegionID: Int] = [:]

    init(
        files: SnapshotFiles, applier: Applier, worker: any Worker,
        compressingWorker: (any Worker)? = nil, random: any RandomSource, logger: Logger
    ) {
        self.files = files
        self.applier = applier
        self.worker = worker
        self.compressingWorker = compressingWorker
        self.random = random
        self.logger = logger
    }

    /// The index up to which a region's state survives the process.
    package func index(of region: RegionID) -> LogIndex {
        lock.withLock { regions[region]?.index ?? .zero }
    }

    /// What the last one holds, before compression; zero: that is not known.
    func rawBytes(of region: RegionID) -> UInt64 {
        lock.withLock { regions[region]?.rawBytes ?? 0 }
    }

    /// Bytes of log after which a region's next one pays: eight times what the last one was. At twice the
    /// snapshots of three nodes on two cores took a quarter of their writes.
    func worthwhileBytes(of region: RegionID) -> UInt64 {
        8 * rawBytes(of: region)
    }

    /// Gives a region that was just opened the newest state that was kept of it, and returns its index.
    ///
    /// - Throws: ``NodeError``: `.corrupted` if all that there are are damaged: without them the log, which was
    ///   compacted behind them, is not enough. `.ioFailed` if the disk does not give them now: they may be
    ///   sound, and nothing is taken for missing or damaged for that.
    package func restore(_ region: RegionID) throws(NodeError) -> LogIndex {
        let found: [LogIndex]
        do throws(FileError) {
            found = try kept(of: region)
        } catch {
            throw NodeError(error, directory: files.directory)
        }
        for (position, index) in found.enumerated() {
            do {
                let file = try files.fileSystem.open(files.kept(region, index), .read)
                defer { file.close() }
                let reader = try SnapshotFileReader(file)
                guard reader.header.region == region, reader.header.index == index else {
                    throw SnapshotError(.damaged, "It is another snapshot than its name says.")
                }
                let descriptor = reader.header.descriptor
                try applier.install(reader, region: region, descriptor: descriptor.encoded())
                try applier.setRange(descriptor.range, of: region)
                let rawBytes = reader.totals.rawBytes
                lock.withLock { regions[region] = Kept(index: index, rawBytes: rawBytes) }
                // One that cannot be read must not pass for this index when it is made again.
                for other in found where other != index { files.remove(files.kept(region, other)) }
                return index
            } catch let error as FileError {
                throw NodeError(error, directory: files.directory)
            } catch let error as SnapshotError where error.code == .ioFailed {
                throw NodeError(code: .ioFailed, message: "\(error)")
            } catch {
                logger.error(
                    "a kept snapshot cannot be read",
                    metadata: [
                        "region": "\(region)", "index": "\(index)", "reason": "\(error)",
                    ])
                guard position < found.count - 1 else {
                    throw NodeError(
                        code: .corrupted,
                        message: "The state of region \(region) cannot be read: \(error) Restore "
                            + "\(files.kept(region, index)) from a backup, or remove this node and "
                            + "join it anew.")
                }
            }
        }
        return .zero
    }

    /// Whether there is anything of a region.
    func hasKept(_ region: RegionID) throws(NodeError) -> Bool {
        do throws(FileError) {
            return try !kept(of: region).isEmpty
        } catch {
            throw NodeError(error, directory: files.directory)
        }
    }

    /// Indexes of what is there, the newest first.
    private func kept(of region: RegionID) throws(FileError) -> [LogIndex] {
        guard files.fileSystem.exists(files.directory) else { return [] }
        return try files.fileSystem.list(files.directory).compactMap {
            SnapshotFiles.keptIndex($0, region)
        }.sorted(by: >)
    }

    /// Makes a snapshot of a region as it is about now, unless one is being made.
    ///
    /// - Parameter version: Of the region as its lane knows it. One that was divided before the snapshot is
    ///   begun is not kept: what came out of it has nothing of its own yet, and would be lost with the log
    ///   before that (seed 2800145 of `splits`).
    func keep(
        _ origin: RegionDescriptor, of cluster: ClusterID, version: UInt64,
        lastApplied: LogIndex? = nil
    ) {
        let region = origin.region
        let (isFree, life) = lock.withLock {
            defer { regions[region, default: Kept()].isMaking = true }
            return (!(regions[region]?.isMaking ?? false), forgotten[region] ?? 0)
        }
        guard isFree else { return }
        #if BugBank
            if PlantedBug.compactsBeforeKept.isPlanted, let applied = lastApplied {
                let isFirst = lock.withLock {
                    defer { regions[region]?.index = applied }
                    return regions[region]?.index == .zero
                }
                if isFirst { return lock.withLock { regions[region]?.isMaking = false } }
            }
        #endif
        worker.run { [self] in
            do {
                let (index, footer) = try files.writeKept(
                    origin, of: cluster, version: version, id: random.next() | 1, from: applier,
                    options: SnapshotOptions(compressingWorker: compressingWorker),
                    publish: { (rename) throws(FileError) in try name(region, life, rename) })
                took(region, index, rawBytes: footer.rawBytes, life)
            } catch {
                lock.withLock { regions[region]?.isMaking = false }
                let code = (error as? SnapshotError)?.code
                // One of this very index is as good.
                if code == .exists || code == .cancelled { return }
                logger.error(
                    "a snapshot of a region was not kept",
                    metadata: ["region": "\(region)", "reason": "\(error)"])
            }
        }
    }

    /// Which of its lives here a region is in: what was begun in one is not kept in the next.
    func life(of region: RegionID) -> Int { lock.withLock { forgotten[region] ?? 0 } }

    /// Gives a file of a region its name, by `rename`, if the region is in that life still. So it comes before
    /// what ``forget(_:)`` looks for, or not at all: a later peer could begin with it after a crash otherwise (seed
    /// 49000269 of `splits`).
    private func name(
        _ region: RegionID, _ life: Int, _ rename: () throws(FileError) -> Void
    ) throws(FileError) -> Bool {
        try naming.withLock { () throws(FileError) in
            guard life == self.life(of: region) else { return false }
            try rename()
            return true
        }
    }

    /// What was installed becomes what is kept, durably, unless the region's peer has left since. Blocking.
    func keep(installed mark: SnapshotMark, _ life: Int) throws(FileError) {
        let isThere = try name(mark.region, life) { () throws(FileError) in try files.rename(mark) }
        guard isThere else { return files.remove(mark) }
        try files.fileSystem.syncDirectory(files.directory)
        took(mark.region, mark.index, rawBytes: 0, life)
    }

    /// The region is gone from this node, and what was kept of it goes, durably: a later peer of it must
    /// not take that for its own. Blocking.
    func forget(_ region: RegionID) throws(FileError) {
        #if BugBank
            if PlantedBug.keptOutlivesPeer.isPlanted { return }
        #endif
        // First: nothing of this life gets its name after the look below.
        naming.withLock { lock.withLock { forgotten[region, default: 0] += 1 } }
        for index in try kept(of: region) {
            try files.fileSystem.remove(files.kept(region, index))
        }
        try files.fileSystem.syncDirectory(files.directory)
        lock.withLock { regions[region] = nil }
    }

    /// One is there and durable: those before it may go. False, and nothing done, if what was kept was forgotten
    /// since its region's `life` began; nil: it is of this one.
    @discardableResult
    func took(
        _ region: RegionID, _ index: LogIndex, rawBytes: UInt64, _ life: Int? = nil
    ) -> Bool {
        let before: LogIndex? = lock.withLock {
            guard life == nil || life == forgotten[region] ?? 0 else { return nil }
            let before = regions[region]?.index ?? .zero
            regions[region] = Kept(index: max(index, before), rawBytes: rawBytes)
            return before
        }
        guard let before else { return false }
        if before > .zero, index > before { files.remove(files.kept(region, before)) }
        return true
    }
}

extension SnapshotFiles {
    /// Writes a region's state, as it is at one moment of the call, as a snapshot that is kept: durable under
    /// its name when this returns. The directory is there.
    ///
    /// - Parameter version: Nil: whatever it is.
    /// - Throws: ``SnapshotError``, `.exists` if there is one of that index, `.cancelled` if the region is of
    ///   another version; ``StateError``. Nothing is left then.
    package func writeKept(
        _ origin: RegionDescriptor, of cluster: ClusterID, version: UInt64? = nil, id: UInt64,
        from applier: Applier, options: SnapshotOptions
    ) throws -> (index: LogIndex, footer: SnapshotFooter) {
        try writeKept(
            origin, of: cluster, version: version, id: id, from: applier, options: options,
            publish: SnapshotFileWriter.publishAlways)
    }

    /// The same, named only if it is still wanted then; `.cancelled` if it is not.
    func writeKept(
        _ origin: RegionDescriptor, of cluster: ClusterID, version: UInt64?, id: UInt64,
        from applier: Applier, options: SnapshotOptions, publish: SnapshotPublication
    ) throws -> (index: LogIndex, footer: SnapshotFooter) {
        let region = origin.region
        var writer: SnapshotFileWriter?
        do {
            var index = LogIndex.zero
            try applier.writeSnapshot(of: region) { state, descriptor in
                index = state.applied
                guard version == nil || version == state.epoch.version else {
                    throw SnapshotError(.cancelled, "The region was divided meanwhile.")
                }
                let header = try SnapshotHeader(
                    id, of: cluster, descriptor, origin: origin,
                    content: applier.content(of: region), state)
                let made = try SnapshotFileWriter(
                    fileSystem, path: kept(region, index), header, state: state,
                    options: options)
                writer = made
                return made.encoder
            }
            guard let writer else { throw SnapshotError(.ioFailed, "It was not begun.") }
            return (index, try writer.finish(publish: publish))
        } catch {
            writer?.abandon()
            throw error
        }
    }
}
