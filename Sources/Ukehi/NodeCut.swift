// Cutting the log of a node that nobody can help: it is alone, and what its log has lost is lost.

package import UkehiBase
import UkehiEnvironment
package import UkehiNode
import UkehiPOSIX
import UkehiState
package import UkehiWAL

/// What an operator may do to a damaged node that is alone, once the loss is known and accepted.
package enum NodeCut {
    /// A region whose state was flushed past what is left of its log.
    package struct StateAhead: Sendable, Hashable {
        package var region: RegionID
        /// Its log goes on behind this one; the state holds all up to it.
        package var applied: LogIndex
    }

    /// Why the node in `directory` is not to be cut: it has peers. Nil for one that is alone, and for a
    /// log without a node around it.
    package static func refusal(directory: String) throws(NodeError) -> String? {
        guard let identity = try Identity.load(POSIXFileSystem(), directory: directory),
            let record = identity.record, record.nodes.count > 1
        else { return nil }
        return
            "The node in \(directory) has \(record.nodes.count - 1) peers, which hold what it has "
            + "lost. A cut would make it forget votes that it gave. Start it with wal.on_damage "
            + "not set, which repairs entries; if it ends with 20 all the same, replace the node."
    }

    /// Cuts the log, and lets those regions go on whose state was flushed past what is left of it.
    ///
    /// - Parameter kept: Where the files that it changes or takes away are kept whole.
    /// - Throws: ``NodeError``; what was done so far can be done again.
    package static func apply(
        _ cut: LogCut, directory: String, keeping kept: String
    ) throws(NodeError) -> [StateAhead] {
        do throws(WALError) {
            try cut.apply(POSIXFileSystem(), directory: directory, keeping: kept)
        } catch {
            throw NodeError(error)
        }
        return try followState(in: directory)
    }

    /// Makes the log of each region begin behind what its state holds, where it ends before that.
    private static func followState(in directory: String) throws(NodeError) -> [StateAhead] {
        let fileSystem = POSIXFileSystem()
        guard fileSystem.exists(directory + "/identity"), fileSystem.exists(directory + "/state")
        else { return [] }
        let applier = try Configuration(directory: directory).makeApplier(stateMachine: nil)
        defer { applier.close() }
        do {
            let (log, regions) = try WriteAheadLog.open(
                fileSystem: fileSystem, directory: directory + "/wal", options: WALOptions(),
                random: SystemRandomSource(), clock: SystemClock())
            log.start(durable: { _, _ in }, failed: { _ in })
            defer { log.stop() }
            var ahead: [StateAhead] = []
            var batch = log.newBatch()
            for found in regions {
                guard let birth = found.birth else { continue }
                let born = try RegionBirth.decode(birth).origin
                let applied = try applier.open(
                    region: born.region, system: born.isSystem, range: born.range,
                    epoch: born.epoch)
                guard applied > found.lastIndex else { continue }
                // Alone, it has no peer that could have an entry there of another term.
                var hardState = found.hardState
                hardState.commit = applied
                batch.reset(
                    region: found.region, index: applied, term: hardState.term,
                    hardState: hardState)
                ahead.append(StateAhead(region: found.region, applied: applied))
            }
            let ticket = try log.submit(&batch, lane: 0)
            guard log.waitUntilDurable(ticket) else {
                throw NodeError(
                    code: .ioFailed, message: "The log was cut, but could not be written after it.")
            }
            return ahead
        } catch let error as NodeError {
            throw error
        } catch let error as WALError {
            throw NodeError(error)
        } catch let error as StateError {
            throw NodeError(error)
        } catch {
            throw NodeError(code: .corrupted, message: "A region's birth cannot be read: \(error).")
        }
    }
}
