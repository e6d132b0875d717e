// Opening regions: with the snapshots that were kept of them, and those whose installation an earlier
// life of the process did not end.

import Logging
import UkehiBase
import UkehiEnvironment
import UkehiState

extension NodeCore {
    /// Marks of snapshots whose installation was not ended. Takes away what is left of transfers.
    func unfinished() throws(NodeError) -> [SnapshotMark] {
        do {
            return try snapshotFiles.prepare()
        } catch {
            throw NodeError(error, directory: directory)
        }
    }

    /// Gives a region that was just opened the state that was kept of it, and goes on with its
    /// installation where that was ended (RULES 48).
    ///
    /// - Returns: What the state has applied now, and the mark that the log is to be reset to.
    func resume(
        _ birth: RegionBirth, _ peer: PeerID, applied opened: LogIndex, _ marks: [SnapshotMark],
        needsReset: (SnapshotMark) -> Bool
    ) throws(NodeError) -> (applied: LogIndex, reset: SnapshotMark?) {
        let region = birth.region
        var applied = opened
        if let keeper, applier.givesSnapshots(of: region) {
            // What came out of another region has that one's part, if none was kept of it.
            applied = max(applied, try keeper.restore(region))
        }
        var reset: SnapshotMark?
        for mark in marks where mark.region == region {
            #if BugBank
                if PlantedBug.markIsEnough.isPlanted, mark.peer == peer, mark.index > applied {
                    return (mark.index, needsReset(mark) ? mark : nil)
                }
            #endif
            if mark.peer == peer, mark.index > applied {
                applied = try install(mark) ? mark.index : applied
            }
            if mark.peer == peer, applied == mark.index, needsReset(mark) {
                reset = mark
            } else if mark.peer == peer, applied == mark.index, let keeper {
                try keep(mark, keeper)
            } else {
                snapshotFiles.remove(mark)
            }
        }
        return (applied, reset)
    }

    /// False if the file cannot be read: nothing was replaced then, the region is what it was and is sent
    /// another one.
    private func install(_ mark: SnapshotMark) throws(NodeError) -> Bool {
        do {
            try snapshotFiles.install(mark, with: applier)
            return true
        } catch let error as StateError {
            throw NodeError(error)
        } catch let error as FileError {
            // Not as good as damage: it may be the only copy, and readable the next time.
            throw NodeError(error, directory: directory)
        } catch let error as SnapshotError where error.code == .ioFailed {
            throw NodeError(code: .ioFailed, message: "\(error)")
        } catch {
            logger.error(
                "a snapshot cannot be installed",
                metadata: ["region": "\(mark.region)", "reason": "\(error)"])
            return false
        }
    }

    /// The log was reset, and the process ended before the mark became what is kept.
    private func keep(_ mark: SnapshotMark, _ keeper: SnapshotKeeper) throws(NodeError) {
        do throws(FileError) {
            try keeper.keep(installed: mark, keeper.life(of: mark.region))
        } catch {
            throw NodeError(error, directory: directory)
        }
    }
}
