package health

// Next steps that many codes share.
const (
	doNothing      = "Nothing needs to be done."
	doFixProgram   = "Look for the bug in the program (compute-sanitizer finds most); if programs of several users get it on this GPU alone, cordon the GPU and test it."
	doRestart      = "Start the program again; if it comes again on this GPU alone, cordon the GPU and ask NVIDIA."
	doReset        = "Stop what runs on the GPU, reset it (nvidia-smi --gpu-reset) or reboot, test it, then uncordon it; if it comes again, ask NVIDIA."
	doReboot       = "Reboot the machine; if the GPU is still gone, power it off, check how the GPU is seated and powered, and ask NVIDIA."
	doResetMemory  = "Stop what runs on the GPU, reset it so that it replaces the bad memory, test it, then uncordon it; if it comes again, ask NVIDIA for another GPU."
	doResetLinks   = "Stop what runs on the GPU and its NVLink peers, reset them together, test them, then uncordon it; if it comes again, check the link's hardware and ask NVIDIA."
	doWatch        = "Go on; if it comes again within days, plan a test of this GPU and ask NVIDIA."
	doUpdateDriver = "Update the NVIDIA driver when you can; if it comes again, ask NVIDIA."
)

// Causes that several equal engines share.
const (
	copyEngine  = "One of the GPU's copy engines stopped a program's transfer."
	videoEngine = "One of the GPU's video or picture engines stopped a program's job."
)

// xidRows is the table, in order of code. Name and action are NVIDIA's (XIDSource,
// which marks the codes that are not here as unused on Ampere and later; 61 is
// from its table of older GPUs). The classes follow Class but for these:
//
//   - 43 and 45: NVIDIA sends one to its support or the fabric manager; both are
//     what a program's end looks like, so they are the program's.
//   - 54 and 167: no reset helps or none is named; power and bus are the machine's.
//   - 94: NVIDIA restarts the program and leaves the reset for later. Memory that ECC
//     could not mend stays in use until the reset, so nothing new goes there.
//   - 144 to 150: the action depends on registers that NVML does not tell. Where
//     NVIDIA resets in some case, so do we.
//   - 154: the driver's recovery action changed, NVML does not tell to what.
//   - 159: a reset where unified memory is used, which CUDA always does.
//   - 163 to 172: NVIDIA gives no action yet; by what the name says.
func xidRows() []xidRow {
	return []xidRow{
		{8, 8, "ROBUST_CHANNEL_FIFO_ERROR_IDLE_TIMEOUT", Degraded, "RESTART_APP", "The GPU stopped processing a program's work.", doRestart},
		{11, 11, "ROBUST_CHANNEL_GR_ERROR_MISSING_HW", Application, "RESTART_APP", "A program sent the GPU commands that make no sense.", doFixProgram},
		{13, 13, "ROBUST_CHANNEL_GR_EXCEPTION", Application, "RESTART_APP", "A program's kernel did something illegal, most often an access outside an array.", doFixProgram},
		{14, 14, "ROBUST_CHANNEL_FAKE_ERROR", Notice, "IGNORE", "The driver raised an error for a test.", doNothing},
		{25, 25, "ROBUST_CHANNEL_GR_ILLEGAL_NOTIFY", Application, "RESTART_APP", "A program sent the GPU commands that make no sense.", doFixProgram},
		{31, 31, "ROBUST_CHANNEL_FIFO_ERROR_MMU_ERR_FLT", Application, "RESTART_APP", "A program used an address in GPU memory that is not its own.", doFixProgram},
		{32, 32, "ROBUST_CHANNEL_PBDMA_ERROR", Application, "RESTART_APP", "A program's commands reached the GPU damaged.", doFixProgram},
		{37, 37, "ROBUST_CHANNEL_FECS_ERR_UNIMP_FIRMWARE_METHOD", Application, "IGNORE", "A program used a command that the GPU's firmware does not have.", doFixProgram},
		{38, 38, "ROBUST_CHANNEL_FECS_ERR_WATCHDOG_TIMEOUT", Degraded, "IGNORE", "The GPU's firmware took too long over a program's command.", doWatch},
		{39, 41, "ROBUST_CHANNEL_CE_ERROR", Degraded, "RESTART_APP", copyEngine, doRestart},
		{43, 43, "ROBUST_CHANNEL_RESETCHANNEL_VERIF_ERROR", Application, "IGNORE", "A program's work was stopped after its own error; the GPU is well.", doFixProgram},
		{44, 44, "ROBUST_CHANNEL_GR_FAULT_DURING_CTXSW", Degraded, "IGNORE", "The GPU met an error while it switched between programs.", doWatch},
		{45, 45, "ROBUST_CHANNEL_PREEMPTIVE_REMOVAL", Application, "WORKFLOW_XID_45", "The driver cleaned up after a program that ended or failed.", "Look for an Xid before it, which is the cause; if it comes alone on a machine with NVSwitch, restart nvidia-fabricmanager."},
		{46, 46, "ROBUST_CHANNEL_GPU_TIMEOUT_ERROR", Fatal, "RESET_GPU", "The GPU stopped processing.", doReset},
		{48, 48, "ROBUST_CHANNEL_GPU_ECC_DBE", Fatal, "WORKFLOW_XID_48", "The GPU's memory had an error that ECC could not mend; a result may be lost.", doResetMemory},
		{54, 54, "SILENT_RUNNING_PWR_REDUCED_CLOCKING", Fatal, "CHECK_MECHANICALS", "The GPU gets too little power and runs slowly.", "Power the machine off and check the GPU's power cables, then test it and uncordon it."},
		{60, 60, "ROBUST_CHANNEL_SEC2_ERROR", Degraded, "RESTART_APP", "The GPU's security engine stopped a program's work.", doRestart},
		{61, 61, "PMU_BREAKPOINT", Fatal, "RESET_GPU", "The GPU's power controller stopped.", doReset},
		{62, 62, "PMU_HALT_ERROR", Fatal, "RESET_GPU", "The GPU's power controller stopped.", doReset},
		{63, 63, "INFOROM_DRAM_RETIREMENT_EVENT", Degraded, "IGNORE", "A worn piece of GPU memory was marked to be replaced by a spare at the next reset.", "Reset the GPU when nothing runs on it; if it comes again and again, ask NVIDIA."},
		{64, 64, "INFOROM_DRAM_RETIREMENT_FAILURE", Fatal, "RESET_GPU", "A worn piece of GPU memory could not be marked to be replaced.", doResetMemory},
		{66, 66, "ROBUST_CHANNEL_FECS_ERR_REG_ACCESS_VIOLATION", Degraded, "IGNORE", "A program touched a part of the GPU that is closed to it.", doUpdateDriver},
		{67, 67, "ROBUST_CHANNEL_FECS_ERR_VERIF_VIOLATION", Degraded, "IGNORE", "The GPU's firmware refused a command as invalid.", doWatch},
		{68, 68, "ROBUST_CHANNEL_NVDEC0_ERROR", Degraded, "RESTART_APP", videoEngine, doRestart},
		{69, 69, "ROBUST_CHANNEL_GR_CLASS_ERROR", Application, "RESTART_APP", "A program set up the GPU's compute engine wrongly.", doFixProgram},
		{70, 72, "ROBUST_CHANNEL_CE_ERROR", Degraded, "RESTART_APP", copyEngine, doRestart},
		{74, 74, "NVLINK_ERROR", Fatal, "WORKFLOW_NVLINK_ERR", "An NVLink between this GPU and another, or a switch, failed.", doResetLinks},
		{75, 77, "ROBUST_CHANNEL_CE_ERROR", Degraded, "RESTART_APP", copyEngine, doRestart},
		{78, 78, "VGPU_START_ERROR", Degraded, "UPDATE_SWFW", "A virtual GPU could not start.", doUpdateDriver},
		{79, 79, "ROBUST_CHANNEL_GPU_HAS_FALLEN_OFF_THE_BUS", Fatal, "RESTART_BM", "The GPU has fallen off the PCI bus: the machine cannot reach it any more.", doReboot},
		{80, 80, "PBDMA_PUSHBUFFER_CRC_MISMATCH", Application, "RESTART_APP", "A program's commands reached the GPU damaged.", doFixProgram},
		{82, 84, "ROBUST_CHANNEL_NVJPG_NVDEC_ERROR", Degraded, "RESTART_APP", videoEngine, doRestart},
		{85, 85, "ROBUST_CHANNEL_CE_ERROR", Degraded, "RESTART_APP", copyEngine, doRestart},
		{86, 86, "ROBUST_CHANNEL_OFA0_ERROR", Degraded, "RESTART_APP", videoEngine, doRestart},
		{88, 89, "ROBUST_CHANNEL_NVDEC_ERROR", Degraded, "RESTART_APP", videoEngine, doRestart},
		{92, 92, "EXCESSIVE_SBE_INTERRUPTS", Degraded, "IGNORE", "The GPU's memory has very many errors, all of which ECC mended so far.", "Plan a test of this GPU's memory; ask NVIDIA if it comes again."},
		{93, 93, "INFOROM_ERASE_LIMIT_EXCEEDED", Degraded, "IGNORE", "The GPU's own small store of its state is worn out.", doWatch},
		{94, 94, "ROBUST_CHANNEL_CONTAINED_ERROR", Fatal, "RESTART_APP", "The GPU's memory had an error that ECC could not mend; only the program that used it was stopped, others may end their work.", doResetMemory},
		{95, 95, "ROBUST_CHANNEL_UNCONTAINED_ERROR", Fatal, "RESET_GPU", "The GPU's memory had an error that ECC could not mend and that may have reached every program on it.", doResetMemory},
		{96, 105, "ROBUST_CHANNEL_NVDEC_NVJPG_ERROR", Degraded, "RESTART_APP", videoEngine, doRestart},
		{106, 107, "SMBPBI_TEST_MESSAGE", Notice, "IGNORE", "Somebody sent a test message over the board's management bus.", doNothing},
		{108, 108, "NVLINK_REMOTE_TRANSLATION_ERROR", Application, "IGNORE", "A program used an address on another GPU that it may not, or that went away.", doFixProgram},
		{109, 109, "ROBUST_CHANNEL_CTXSW_TIMEOUT_ERROR", Fatal, "RESET_GPU", "The GPU could not be taken from one program for the next.", doReset},
		{110, 110, "SEC_FAULT_ERROR", Fatal, "RESET_GPU", "The GPU stopped itself over a breach of its security rules.", doReset},
		{119, 119, "GSP_RPC_TIMEOUT", Fatal, "RESET_GPU", "The GPU's system processor (GSP) does not answer the driver.", doReset},
		{120, 120, "GSP_ERROR", Fatal, "RESET_GPU", "The GPU's system processor (GSP) failed.", doReset},
		{121, 121, "C2C_ERROR", Degraded, "IGNORE", "The link between GPU and CPU had errors that it mended.", doWatch},
		{126, 135, "ROBUST_CHANNEL_CE_ERROR", Degraded, "RESTART_APP", copyEngine, doRestart},
		{136, 136, "ALI_TRAINING_FAIL", Fatal, "RESET_GPU", "An NVLink could not be set up.", doResetLinks},
		{137, 137, "NVLINK_PRIV_ERR", Application, "IGNORE", "A program used another GPU's memory over NVLink in a way that it may not.", doFixProgram},
		{139, 139, "ROBUST_CHANNEL_OFA1_ERROR", Degraded, "RESTART_APP", videoEngine, doRestart},
		{140, 140, "UNRECOVERABLE_ECC_ERROR_ESCAPE", Fatal, "RESET_GPU", "The GPU's memory had an error that ECC could not mend, and the driver could not set that memory aside.", doResetMemory},
		{141, 141, "ROBUST_CHANNEL_FAST_PATH_ERROR", Degraded, "IGNORE", "The driver's short way to the GPU failed; it took the long one.", doWatch},
		{142, 142, "ROBUST_CHANNEL_NVENC3_ERROR", Degraded, "CONTACT_SUPPORT", videoEngine, doWatch},
		{143, 143, "GPU_INIT_ERROR", Fatal, "RESET_GPU", "The GPU could not be started.", doReset},
		{144, 144, "NVLINK_SAW_ERROR", Fatal, "WORKFLOW_NVLINK5_ERR", "The GPU's NVLink unit failed.", doResetLinks},
		{145, 145, "NVLINK_RLW_ERROR", Fatal, "WORKFLOW_NVLINK5_ERR", "The GPU's NVLink unit failed.", doResetLinks},
		{146, 146, "NVLINK_TLW_ERROR", Fatal, "WORKFLOW_NVLINK5_ERR", "The GPU's NVLink unit failed.", doResetLinks},
		{147, 147, "NVLINK_TREX_ERROR", Degraded, "WORKFLOW_NVLINK5_ERR", "The GPU's NVLink unit had an error that it mended.", doWatch},
		{148, 148, "NVLINK_NVLPW_CTRL_ERROR", Degraded, "WORKFLOW_NVLINK5_ERR", "The GPU's NVLink unit had an error that it mended.", doWatch},
		{149, 149, "NVLINK_NETIR_ERROR", Fatal, "WORKFLOW_NVLINK5_ERR", "An NVLink of this GPU went down or failed.", doResetLinks},
		{150, 150, "NVLINK_MSE_ERROR", Fatal, "WORKFLOW_NVLINK5_ERR", "The controller of the GPU's NVLinks failed.", doResetLinks},
		{151, 151, "ROBUST_CHANNEL_KEY_ROTATION_ERROR", Fatal, "RESTART_VM", "The GPU's confidential-computing keys could not be changed.", doReset},
		{154, 154, "GPU_RECOVERY_ACTION_CHANGED", Fatal, "XID_154", "The driver says that this GPU has to be reset or the machine rebooted, or that it no longer has to.", "Run nvidia-smi -q and do what it shows as GPU Recovery Action, test the GPU, then uncordon it."},
		{155, 155, "NVLINK_SW_DEFINED_ERROR", Fatal, "RESET_GPU", "An NVLink of this GPU went down.", doResetLinks},
		{156, 156, "RESOURCE_RETIREMENT_EVENT", Fatal, "RESET_GPU", "A failing part of the GPU is set aside at the next reset.", doReset},
		{157, 157, "RESOURCE_RETIREMENT_FAILURE", Degraded, "IGNORE", "A failing part of the GPU could not be set aside.", doWatch},
		{158, 158, "GPU_FATAL_TIMEOUT", Fatal, "RESET_GPU", "The GPU stopped answering one of its own parts.", doReset},
		{159, 159, "ROBUST_CHANNEL_CHI_NON_DATA_ERROR", Fatal, "CHECK_UVM", "The link between GPU and CPU lost a transfer.", doReset},
		{160, 160, "CHANNEL_RETIREMENT_EVENT", Degraded, "IGNORE", "A failing channel of the GPU's memory was set aside.", doWatch},
		{161, 161, "CHANNEL_RETIREMENT_FAILURE", Degraded, "IGNORE", "A failing channel of the GPU's memory could not be set aside.", doWatch},
		{162, 162, "PSHC_REENGAGED", Notice, "", "The GPU's power smoothing works again.", doNothing},
		{163, 163, "PSHC_DISENGAGED", Degraded, "", "The GPU's power smoothing is off.", doWatch},
		{164, 164, "PSHC_LOW_LIFETIME", Degraded, "", "The GPU's power smoothing is nearly worn out.", doWatch},
		{165, 165, "PSHC_ZERO_LIFETIME", Degraded, "", "The GPU's power smoothing is worn out.", doWatch},
		{166, 166, "NVLINK_SECURE_CRYPTO_ERR", Degraded, "", "An encrypted NVLink had an error.", doWatch},
		{167, 167, "PCIE_FATAL_TIMEOUT", Fatal, "", "The GPU does not answer on the PCI bus.", doReboot},
		{168, 168, "REDUCED_GPU_MEMORY_CAPACITY", Degraded, "", "The GPU goes on with less memory than it had.", doWatch},
		{169, 169, "SEC2_HALT_ERROR", Fatal, "", "The GPU's security engine stopped.", doReset},
		{170, 170, "NVLINK_SECURE_OTHER", Degraded, "", "An encrypted NVLink had an error.", doWatch},
		{171, 171, "UNCORRECTABLE_DRAM_ERROR", Fatal, "", "The GPU's memory had an error that ECC could not mend.", doResetMemory},
		{172, 172, "UNCORRECTABLE_SRAM_ERROR", Fatal, "", "The GPU's caches had an error that ECC could not mend.", doResetMemory},
	}
}
