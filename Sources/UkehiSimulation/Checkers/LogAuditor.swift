// A node's log against what is on its disk: the index that recovery would build, and the one that the
// running log has, both against a full scan.

import UkehiBase
import UkehiNode
import UkehiWAL

enum LogAuditor {
    /// What is wrong with the log on a disk, read as recovery reads it.
    ///
    /// - Parameter mayRefuse: The disk was damaged on purpose: it may be unreadable, but not wrong.
    static func problem(on disk: SimulatedFileSystem, mayRefuse: Bool) -> String? {
        guard let report = audit(disk) else { return nil }
        if let difference = report.differences.first { return difference }
        guard let problem = report.problem, !mayRefuse else { return nil }
        return "it cannot be opened: \(problem)"
    }

    /// What is wrong with a running log, while nothing is on its way to it.
    static func problem(
        of log: WriteAheadLog, peers: [PeerStatus], on disk: SimulatedFileSystem
    ) -> String? {
        guard log.statistics.queuedBytes == 0, let report = audit(disk), report.problem == nil
        else {
            return nil
        }
        for peer in peers {
            guard let region = report.regions.first(where: { $0.region == peer.region }) else {
                return "\(peer.region) is open, but not on disk"
            }
            guard region.firstIndex == peer.firstIndex, region.lastIndex == peer.lastIndex else {
                return
                    "\(peer.region) has entries \(peer.firstIndex) to \(peer.lastIndex), its disk "
                    + "\(region.firstIndex) to \(region.lastIndex)"
            }
            guard peer.firstIndex <= peer.lastIndex else { continue }
            do throws(WALError) {
                let entries = try log.entries(
                    region: peer.region, from: peer.firstIndex, to: peer.lastIndex + 1,
                    maxBytes: .max)
                guard checksum(entries) == region.entriesChecksum else {
                    return "the index of \(peer.region) leads to other entries than a scan finds"
                }
            } catch {
                return "the index of \(peer.region) leads nowhere: \(error)"
            }
        }
        return nil
    }

    private static func audit(_ disk: SimulatedFileSystem) -> WALInspector.AuditReport? {
        // Of its own: looking is no operation that a fault could hit.
        let copy = disk.copy()
        guard let names = try? copy.list("data/wal"),
            names.contains(where: { $0.hasSuffix(".wal") })
        else { return nil }
        return WALInspector(fileSystem: copy, directory: "data/wal").audit()
    }

    /// As ``WALInspector/RegionInfo/entriesChecksum``.
    private static func checksum(_ entries: [Entry]) -> UInt32 {
        var checksum = CRC32C()
        for entry in entries {
            withUnsafeBytes(
                of: (
                    entry.index.rawValue.littleEndian, entry.term.rawValue.littleEndian,
                    UInt64(entry.kind.rawValue).littleEndian
                )
            ) { checksum.update($0) }
            entry.data.withUnsafeBytes { checksum.update($0) }
        }
        return checksum.value
    }
}
