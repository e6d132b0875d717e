// State in memory is kept as snapshots: what is kept, what is given back, and what a bad disk does.

import Logging
import Testing
import UkehiBase
import UkehiEnvironment
import UkehiSimulation
import UkehiState

@testable import UkehiNode

@Suite("Kept snapshots")
struct SnapshotKeeperTests {
    private static let cluster = ClusterID(high: 1, low: 2)
    private static let epoch = RegionEpoch(confVersion: 1, version: 1)
    private static let origin = RegionDescriptor(
        region: RegionID(2), isSystem: false, range: .all, epoch: epoch,
        peers: [PeerDescriptor(peer: PeerID(5), node: NodeID(1))])
    private static var region: RegionID { origin.region }

    /// A process: its state goes with it.
    private final class Process {
        let applier = KeyValueApplier(store: MemoryStore())
        let worker: any Worker
        let keeper: SnapshotKeeper
        private var last: UInt64

        init(_ disk: SimulatedFileSystem, worker: any Worker = InlineWorker()) throws {
            self.worker = worker
            let files = SnapshotFiles(disk, directory: "snapshots")
            _ = try files.prepare()
            keeper = SnapshotKeeper(
                files: files, applier: applier, worker: worker, random: NodeRandom(seed: 4),
                logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            last = try applier.open(
                region: region, system: false, range: .all, epoch: epoch
            ).rawValue
        }

        func write(_ count: Int, bytes: Int = 10) throws {
            for _ in 0..<count {
                last += 1
                var batch = ApplyBatch()
                let put = Command.put(
                    key: Bytes("key \(last % 50)"),
                    value: Bytes([UInt8](repeating: UInt8(last % 251), count: bytes)))
                var packer = EntryPacker()
                packer.begin(epoch: epoch, time: last)
                packer.append(try put.encoded())
                batch.append(
                    region: region,
                    entries: [
                        Entry(
                            term: Term(1), index: LogIndex(last),
                            data: packer.finish())
                    ], wantsResults: false)
                try applier.apply(&batch)
            }
        }
        func keep() { keeper.keep(origin, of: cluster, version: origin.epoch.version) }
        func restore() throws -> LogIndex {
            let index = try keeper.restore(region)
            last = index.rawValue
            return index
        }
        func digest() throws -> RegionDigest { try applier.digest(region: region) }
    }

    private func names(_ disk: SimulatedFileSystem) throws -> [String] {
        try disk.list("snapshots").sorted()
    }

    @Test("the next process begins with the last one, and only that stays")
    func restores() throws {
        let disk = SimulatedFileSystem()
        let first = try Process(disk)
        #expect(first.keeper.index(of: Self.region) == .zero)
        #expect(first.keeper.worthwhileBytes(of: Self.region) == 0)
        #expect(try first.restore() == .zero)
        try first.write(20)
        first.keep()
        #expect(try names(disk) == ["kept-2-20"])
        try first.write(30)
        first.keep()
        #expect(try names(disk) == ["kept-2-50"])
        #expect(first.keeper.index(of: Self.region) == LogIndex(50))
        let raw = first.keeper.rawBytes(of: Self.region)
        #expect(raw > 50 * 10)
        #expect(first.keeper.worthwhileBytes(of: Self.region) == 8 * raw)
        // Once more at the same index: as good as it is.
        first.keep()
        #expect(try names(disk) == ["kept-2-50"])
        let digest = try first.digest()

        let second = try Process(disk)
        #expect(try second.restore() == LogIndex(50))
        #expect(try second.digest() == digest)
        #expect(second.keeper.index(of: Self.region) == LogIndex(50))
        #expect(second.keeper.rawBytes(of: Self.region) == raw)
        try second.write(1)
        second.keep()
        #expect(try names(disk) == ["kept-2-51"])
    }

    @Test("a power cut leaves the last one that was told of, or a later one")
    func powerCut() throws {
        for seed in 0..<30 as Range<UInt64> {
            let disk = SimulatedFileSystem()
            let first = try Process(disk)
            try first.write(20)
            first.keep()
            try first.write(5)
            first.keep()
            var random = UkehiSimulation.SeededRandom(seed: seed)
            let after = disk.crashed(using: &random)
            let second = try Process(after)
            #expect(try second.restore() == LogIndex(25))
            #expect(try second.digest() == (try first.digest()))
        }
    }

    @Test(
        "where the newest cannot be read the one before is tried; where none can, the node refuses")
    func damaged() throws {
        let disk = SimulatedFileSystem()
        let first = try Process(disk)
        try first.write(20)
        first.keep()
        let older = try #require(disk.contents("snapshots/kept-2-20"))
        let digest = try first.digest()
        try first.write(5)
        first.keep()
        var newer = try #require(disk.contents("snapshots/kept-2-25"))
        newer[newer.count / 2] ^= 1
        disk.replace("snapshots/kept-2-25", with: newer)
        disk.replace("snapshots/kept-2-20", with: older)

        let second = try Process(disk)
        #expect(try second.restore() == LogIndex(20))
        #expect(try second.digest() == digest)
        // The bad one must not pass for index 25 when that is made again.
        #expect(try names(disk) == ["kept-2-20"])

        // Of another index than its name says: as bad.
        disk.replace("snapshots/kept-2-30", with: older)
        disk.replace("snapshots/kept-2-20", with: [1, 2, 3])
        let third = try Process(disk)
        do {
            _ = try third.restore()
            Issue.record("a region without a state was opened")
        } catch let error as NodeError {
            #expect(error.code == .corrupted)
            #expect(error.message.contains("snapshots/kept-2-20"))
        }
        // Nothing was thrown away: who knows what can still be read of it.
        #expect(try names(disk) == ["kept-2-20", "kept-2-30"])
    }

    @Test("one of a region is made at a time; a region that is gone leaves none")
    func oneAtATime() throws {
        let disk = SimulatedFileSystem()
        let worker = HeldWorker()
        let process = try Process(disk, worker: worker)
        try process.write(20)
        process.keep()
        process.keep()
        #expect(worker.held.count == 1)
        worker.release()
        #expect(try names(disk) == ["kept-2-20"])
        try process.write(1)
        process.keep()
        #expect(worker.held.count == 1)
        worker.release()
        try process.keeper.forget(Self.region)
        #expect(try names(disk) == [])
        #expect(process.keeper.index(of: Self.region) == .zero)
        #expect(try Process(disk).restore() == .zero)
    }

    @Test("what was installed is not kept when its region's peer has left meanwhile")
    func installedTooLate() throws {
        let disk = SimulatedFileSystem()
        let process = try Process(disk)
        let keeper = process.keeper
        func mark(_ index: UInt64) throws -> SnapshotMark {
            try process.write(Int(index))
            process.keep()
            let mark = SnapshotMark(
                region: Self.region, peer: PeerID(5), index: LogIndex(index), term: Term(1))
            let files = SnapshotFiles(disk, directory: "snapshots")
            try disk.rename(files.kept(Self.region, LogIndex(index)), to: files.path(mark))
            return mark
        }
        let life = keeper.life(of: Self.region)
        let first = try mark(20)
        try keeper.forget(Self.region)
        try keeper.keep(installed: first, life)
        #expect(try names(disk) == [] && keeper.index(of: Self.region) == .zero)
        // A later one's is.
        let second = SnapshotMark(
            region: Self.region, peer: PeerID(6), index: LogIndex(20), term: Term(1))
        process.keep()
        let files = SnapshotFiles(disk, directory: "snapshots")
        try disk.rename(files.kept(Self.region, LogIndex(20)), to: files.path(second))
        try keeper.keep(installed: second, keeper.life(of: Self.region))
        #expect(try names(disk) == ["kept-2-20"])
        #expect(try Process(disk).restore() == LogIndex(20))
    }

    @Test("nor is one that was being made, also where nothing can be removed")
    func madeTooLate() throws {
        let disk = SimulatedFileSystem()
        let worker = HeldWorker()
        let process = try Process(disk, worker: worker)
        try process.write(20)
        process.keep()
        try process.keeper.forget(Self.region)
        disk.setHook { operation throws(FileError) in
            guard operation.kind == .remove, operation.path.hasSuffix("kept-2-20") else { return }
            throw FileError(kind: .ioFailed, operation: "unlink", path: operation.path)
        }
        worker.release()
        disk.setHook(nil)
        #expect(process.keeper.index(of: Self.region) == .zero)
        #expect(try names(disk) == [])
        #expect(try Process(disk).restore() == .zero)
    }

    @Test("a disk that fails leaves what was kept, and the next one is made all the same")
    func failingDisk() throws {
        let disk = SimulatedFileSystem()
        let process = try Process(disk)
        try process.write(20)
        process.keep()
        try process.write(5)
        disk.setHook { operation throws(FileError) in
            throw FileError(kind: .noSpace, operation: "write", path: "snapshots")
        }
        process.keep()
        disk.setHook(nil)
        #expect(process.keeper.index(of: Self.region) == LogIndex(20))
        #expect(try names(disk).filter { !$0.hasSuffix(".partial") } == ["kept-2-20"])
        process.keep()
        #expect(try names(disk) == ["kept-2-25"])
        #expect(process.keeper.index(of: Self.region) == LogIndex(25))
    }
}
