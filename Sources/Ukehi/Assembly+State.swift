// Which state store a configuration names, and the applier on it.

internal import UkehiBase
package import UkehiNode
package import UkehiState

#if RocksDB
    internal import UkehiRocksDB
#endif

extension Configuration {
    /// Opens the state; called with the directory locked and known to be this node's.
    ///
    /// - Parameter isReadOnly: What is on disk is there, stays as it is, and is only read.
    func makeApplier(
        stateMachine: (@Sendable (RegionID, KeyRange) -> any StateMachine)?,
        isReadOnly: Bool = false
    ) throws(NodeError) -> Applier {
        if let stateMachine { return MachineApplier(factory: stateMachine) }
        switch storage.state {
        case .none: return LogDigestApplier()
        case .memory: return KeyValueApplier(store: MemoryStore())
        case .rocksdb: return KeyValueApplier(store: try openRocksDB(isReadOnly))
        }
    }

    /// Opens key-value state that no node uses, for tools.
    package func openState() throws(NodeError) -> KeyValueApplier {
        guard let applier = try makeApplier(stateMachine: nil) as? KeyValueApplier else {
            throw NodeError(
                code: .configuration,
                message: "storage.state = \"\(storage.state)\" holds no keys. Use rocksdb.")
        }
        return applier
    }

    private func openRocksDB(_ isReadOnly: Bool) throws(NodeError) -> any StateStore {
        #if RocksDB
            var options = RocksDBOptions()
            options.blockCacheBytes = storage.cacheMegabytes << 20
            do throws(StateError) {
                let options = RocksDBOptions(blockCacheBytes: storage.cacheMegabytes << 20)
                return try RocksDBStore(
                    directory: cluster.dataDirectory + "/state", options: options,
                    isReadOnly: isReadOnly)
            } catch {
                throw NodeError(error)
            }
        #else
            throw NodeError(
                code: .configuration,
                message:
                    "This build has no RocksDB. Set storage.state to \"memory\", or build with "
                    + "the trait RocksDB.")
        #endif
    }
}
